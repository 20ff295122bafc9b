from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from runtimes import Detections, FakeRuntime, ImageError, MissingExtraError, MissingFileError, UsageError, read_image
from runtimes.pictures import write_image


@pytest.fixture
def found() -> Detections:
    return Detections(
        boxes_xyxy=np.array([[2, 3, 12, 9], [0, 0, 20, 16], [5, 5, 5, 5]], np.float32),
        scores=np.array([0.9, 0.6, 0.3], np.float32),
        labels=np.array([1, 0, 1]),
        mask_probs=np.ones((3, 14, 14), np.float32),
        image_size_hw=(16, 20),
        names=("cat", "dog"),
        category_ids=(17, 18),
        speed_ms={"inference": 1.0},
    )


def test_rows_are_chosen_by_number_slice_list_or_condition(found):
    assert len(found) == 3
    assert found[1].scores.tolist() == found[1:2].scores.tolist() == pytest.approx([0.6])
    assert found[found.scores > 0.5].labels.tolist() == [1, 0]
    assert found[[2, 0]].scores.tolist() == pytest.approx([0.3, 0.9])
    assert [len(one) for one in found] == [1, 1, 1]


def test_ultralytics_attribute_names_work(found):
    assert found.boxes.xyxy is found.boxes_xyxy and found.boxes.conf is found.scores and found.boxes.cls is found.labels
    assert (found.orig_shape, found.names[0], found.speed) == ((16, 20), "cat", {"inference": 1.0})
    assert found.masks.data.shape == (3, 16, 20) and found.masks.data.dtype == bool
    assert found.masks.data[0].sum() == 10 * 6
    np.testing.assert_array_equal(np.ptp(found.masks.xy[0], axis=0), [10, 6])
    assert found.masks.xy[2].shape == (0, 2)


def test_masks_say_their_area_and_centre(found):
    np.testing.assert_allclose(found.masks.areas[:2], [10 * 6, 20 * 16], rtol=0.01)
    np.testing.assert_allclose(found.masks.area_shares[:2], [60 / 320, 1], rtol=0.01)
    np.testing.assert_allclose(found.masks.centroids[:2], [[7, 6], [10, 8]], atol=1e-3)
    assert found.masks.areas[2] == 0 and found.masks.centroids[2].tolist() == [5, 5]
    assert "regions" not in vars(found.masks)  # no pixels were made


def test_filter_keeps_what_counts(found):
    assert found.filter(classes="dog").labels.tolist() == [1, 1]
    assert found.filter(classes=["cat", 1], conf=0.5).scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.filter(classes=0).class_names == ["cat"]
    assert found.filter(exclude="cat").class_names == ["dog", "dog"]
    assert found.filter(classes="cat", exclude=0).class_names == []
    assert found.filter(min_area=10).class_names == ["dog", "cat"]
    assert len(found.filter()) == 3 and len(found.filter(classes=[])) == 0


@pytest.mark.parametrize("wanted", ["dgo", 2, -1])
def test_class_that_the_model_lacks_is_named(found, wanted):
    with pytest.raises(UsageError, match=f"class {wanted!r}: the model has cat, dog"):
        found.filter(classes=wanted)


def test_nearest_class_is_suggested(found):
    with pytest.raises(UsageError, match="did you mean dog"):
        found.filter(exclude=["dgo"])


def test_coco_results_carry_the_ids_of_the_data_set(found):
    results = json.loads(json.dumps(found.to_coco(42)))
    assert [r["category_id"] for r in results] == [18, 17, 18]
    assert results[0]["image_id"] == 42
    assert results[0]["bbox"] == [2, 3, 10, 6]
    assert results[0]["score"] == pytest.approx(0.9)
    assert results[0]["segmentation"]["size"] == [16, 20]
    assert [r["category_name"] for r in results] == ["dog", "cat", "dog"]
    assert results[0]["area"] == pytest.approx(60, rel=0.01)
    assert results[0]["area_share"] == pytest.approx(60 / 320, rel=0.01)
    assert (results[0]["centroid"], results[2]["centroid"]) == ([7, 6], [5, 5])


def test_coco_results_decode_to_the_masks(found):
    coco = pytest.importorskip("pycocotools.mask")
    decoded = [coco.decode(r["segmentation"]) for r in found.to_coco(1)]
    np.testing.assert_array_equal(np.stack(decoded), found.masks.data)


def test_wrong_shapes_are_printed(found):
    with pytest.raises(ValueError, match=r"boxes_xyxy: expected shape \(3, 4\), got \(2, 4\)"):
        Detections(**{**vars(found), "boxes_xyxy": found.boxes_xyxy[:2]})


def test_boxes_in_other_notations(found):
    boxes = found.boxes
    assert len(boxes) == 3
    np.testing.assert_allclose(boxes.xywh[0], [7, 6, 10, 6])
    np.testing.assert_allclose(boxes.xyxyn[0], [2 / 20, 3 / 16, 12 / 20, 9 / 16])
    np.testing.assert_allclose(boxes.xywhn[0], [7 / 20, 6 / 16, 10 / 20, 6 / 16])
    np.testing.assert_allclose(found.masks.xyn[1].max(axis=0), [1, 1])
    assert found.areas is found.masks.areas


def test_summary_is_what_other_tools_give(found):
    numbered = replace(found, ids=np.array([7, -1, -1]))
    first, second, third = json.loads(numbered.to_json())
    assert (first["name"], first["class"], first["confidence"], first["track_id"]) == ("dog", 1, 0.9, 7)
    assert first["box"] == {"x1": 2, "y1": 3, "x2": 12, "y2": 9} and "track_id" not in second
    assert max(first["segments"]["x"]) == 12 and third["segments"] == {"x": [], "y": []}
    assert first["area"] == pytest.approx(60, rel=0.01) and first["centroid"] == [7, 6]
    shares = found.summary(normalize=True, decimals=3)[0]
    assert shares["box"] == {"x1": 0.1, "y1": 0.188, "x2": 0.6, "y2": 0.562}
    assert found[:0].summary() == []


def test_repr_is_one_short_line(found):
    assert repr(found) == "Detections(2 dog, 1 cat; image 20 x 16)"
    assert repr(found[:0]) == "Detections(nothing; image 20 x 16)"
    assert repr(found.masks) == "Masks(3 of 14 x 14, image 20 x 16)"


def test_pickles_and_copies_leave_out_what_is_made(found):
    before = len(pickle.dumps(found))
    assert found.masks.data.any() and found.masks.rle and found.masks.areas.any()
    assert len(pickle.dumps(found)) == before
    other = pickle.loads(pickle.dumps(found))
    assert "masks" not in vars(other) and "masks" not in vars(copy.copy(found))
    np.testing.assert_array_equal(other.masks.data, found.masks.data)
    assert not {"data", "rle", "contours"} & set(vars(pickle.loads(pickle.dumps(found.masks))))


def test_save_keeps_what_is_there(found, tmp_path):
    image = np.zeros((16, 20, 3), np.uint8)
    assert found.save(tmp_path / "out.png", image) == tmp_path / "out.png"
    assert found.save(tmp_path / "out.png", image[..., ::-1], order="bgr") == tmp_path / "out-2.png"
    np.testing.assert_array_equal(read_image(tmp_path / "out.png"), found.plot(image))
    np.testing.assert_array_equal(read_image(tmp_path / "out-2.png"), found.plot(image))
    assert found.save(tmp_path / "out.png", image, overwrite=True) == tmp_path / "out.png"


def test_drawing_needs_the_image_that_was_inferred(found):
    with pytest.raises(UsageError, match=r"found.plot\(image\)"):
        found.plot()
    with pytest.raises(UsageError, match="that was inferred, 20 x 16 pixels, got 8 x 4"):
        found.save("out.png", np.zeros((4, 8, 3), np.uint8))


def test_file_that_was_inferred_is_drawn_without_being_named_again(tmp_path):
    write_image(tmp_path / "in.png", np.full((128, 192, 3), 40, np.uint8))
    with FakeRuntime() as model:
        found = model(str(tmp_path / "in.png"))
        assert found.path == str(tmp_path / "in.png") and model(np.zeros((8, 8, 3), np.uint8)).path is None
    np.testing.assert_array_equal(read_image(found.save(tmp_path / "out.png")), found.plot(found.path))


def test_plot_leaves_the_image_alone(found):
    image = np.zeros((16, 20, 3), np.uint8)
    picture = found.plot(image)
    assert picture.any() and not image.any()


def test_supervision_is_asked_for_by_name(found, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(MissingExtraError, match="pip install supervision"):
        found.to_supervision()


def test_supervision_gets_boxes_masks_and_names(found):
    supervision = pytest.importorskip("supervision")
    theirs = found.to_supervision()
    assert isinstance(theirs, supervision.Detections) and len(theirs) == 3
    np.testing.assert_array_equal(np.asarray(theirs.mask), found.masks.data)
    np.testing.assert_array_equal(found.to_supervision(compact=False).mask, found.masks.data)
    beyond = replace(found, mask_offset_xy=(3.0, -2.0))  # masks that reach out of their boxes, and out of the image
    np.testing.assert_array_equal(np.asarray(beyond.to_supervision().mask), beyond.masks.data)
    assert theirs.data["class_name"].tolist() == ["dog", "cat", "dog"] and theirs.tracker_id is None
    assert supervision.Detections.is_empty(found[:0].to_supervision())


def test_fake_runtime_keeps_the_contract():
    with FakeRuntime() as runtime:
        found = runtime.infer(np.zeros((128, 192, 3), np.uint8))
        np.testing.assert_allclose(found.boxes_xyxy, [[48, 32, 144, 96]])
    assert runtime.is_closed


def test_array_file_and_image_of_pil_are_the_same_picture(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    write_image(tmp_path / "in.png", pixels)
    seen = []
    with FakeRuntime(respond=lambda x: seen.append(x.copy()) or FakeRuntime().run(x)) as model:
        for picture in (pixels, tmp_path / "in.png", str(tmp_path / "in.png"), pil.fromarray(pixels)):
            model.infer(picture)
        model.infer(pixels[..., ::-1], order="bgr")
        model.infer(pil.fromarray(pixels), order="bgr")  # whose order is known
        assert len(model([pixels, tmp_path / "in.png"], conf=0.5)) == 2
    for other in seen[1:]:
        np.testing.assert_array_equal(other, seen[0])


def test_image_of_pil_is_turned_as_its_orientation_says(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    exif = pil.Exif()
    exif[0x0112] = 6  # a quarter turn
    pil.new("L", (60, 40)).save(tmp_path / "in.jpg", exif=exif)
    with FakeRuntime() as model:
        for picture in (tmp_path / "in.jpg", pil.open(tmp_path / "in.jpg")):
            assert model.infer(picture).orig_shape == (60, 40)


def test_what_is_no_picture_is_named():
    with pytest.raises(ImageError, match="a path or a PIL image, got list"):
        FakeRuntime().infer([1, 2])
    with pytest.raises(MissingFileError, match="absent.png: no such image"):
        FakeRuntime().infer("absent.png")
