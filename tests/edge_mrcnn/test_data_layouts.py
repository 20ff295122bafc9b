"""Layouts of data sets, written as their tools write them: each gives the same picture with the same object."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="pip install 'edge-mrcnn[report]'")

from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.data.calibration import load_calibration  # noqa: E402
from edge_mrcnn.data.coco import decode_mask  # noqa: E402
from edge_mrcnn.data.layouts import LAYOUTS, find_layout  # noqa: E402
from edge_mrcnn.data.layouts.voc import palette_color  # noqa: E402
from edge_mrcnn.data.loading import describe_layout, has_split  # noqa: E402
from runtimes.errors import DataError, MissingFileError  # noqa: E402

SIZE_HW = (40, 60)
BOX_XYXY = (20, 10, 50, 30)
POLYGON = [20.0, 10.0, 50.0, 10.0, 50.0, 30.0, 20.0, 30.0]
MASK = np.zeros(SIZE_HW, np.uint8)
MASK[10:30, 20:50] = 1
"""The object of these tests, of class "cup"."""


def draw(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), 80 * np.repeat(MASK[..., None], 3, axis=2))
    return path


def write_json(path: Path, record: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def coco(file_name: str = "a.jpg", *, root: str = "") -> dict[str, Any]:
    """COCO's tables of one picture; Roboflow puts a category in front that nothing is of."""
    categories = [{"id": 0, "name": root, "supercategory": "none"}] if root else []
    annotation = {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [POLYGON], "bbox": [20, 10, 30, 20]}
    return {
        "info": {"year": "2026"},
        "licenses": [],
        "categories": [*categories, {"id": 1, "name": "cup", "supercategory": root}],
        "images": [{"id": 0, "file_name": file_name, "height": 40, "width": 60, "license": 1}],
        "annotations": [{**annotation, "area": 600, "iscrowd": 0}],
    }


def write_ours(root: Path) -> None:
    for split in ("train", "val"):
        draw(root / "images" / split / "a.jpg")
        write_json(root / "annotations" / f"instances_{split}.json", coco())


def write_coco(root: Path) -> None:
    for split in ("train2017", "val2017"):
        draw(root / split / "000000000009.jpg")
        write_json(root / "annotations" / f"instances_{split}.json", coco("000000000009.jpg"))


def write_cvat(root: Path) -> None:
    draw(root / "images" / "default" / "a.jpg")
    write_json(root / "annotations" / "instances_default.json", coco())


def write_roboflow(root: Path) -> None:
    for split in ("train", "valid", "test"):
        draw(root / split / "a_jpg.rf.0123.jpg")
        write_json(root / split / "_annotations.coco.json", coco("a_jpg.rf.0123.jpg", root="cups"))


def write_fiftyone(root: Path) -> None:
    draw(root / "data" / "a.jpg")
    write_json(root / "labels.json", coco())


def write_yolo(root: Path) -> None:
    """As Roboflow exports it: paths that begin a folder too high."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\n\nnc: 2\nnames: ['plate', 'cup']\n")
    shares = " ".join(f"{value / SIZE_HW[1 - place % 2]:.6f}" for place, value in enumerate(POLYGON))
    for split in ("train", "valid"):
        draw(root / split / "images" / "a.jpg")
        draw(root / split / "images" / "nothing.jpg")
        (root / split / "labels").mkdir()
        (root / split / "labels" / "a.txt").write_text(f"1 {shares}\n")


def write_voc(root: Path) -> None:
    folder = root / "VOCdevkit" / "VOC2012"
    cup = palette_color(5)  # a bottle, in VOC
    for name, color in (("SegmentationObject", palette_color(1)), ("SegmentationClass", cup)):
        mask = np.zeros((*SIZE_HW, 3), np.uint8)
        mask[MASK > 0] = color[::-1]
        mask[9, 20:50] = (192, 224, 224)
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / name / "a.png"), mask)
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::", "cup:{},{},{}::".format(*cup)]
    (folder / "labelmap.txt").write_text("\n".join(lines))
    draw(folder / "JPEGImages" / "a.jpg")
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split in ("train", "val"):
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("a\n")


def labelme_shape(**changes: Any) -> dict[str, Any]:
    points = np.reshape(POLYGON, (-1, 2)).tolist()
    return {"label": "cup", "points": points, "group_id": None, "shape_type": "polygon", "flags": {}, **changes}


def write_labelme_file(root: Path, shapes: list[dict[str, Any]]) -> None:
    draw(root / "a.jpg")
    record = {
        "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": "a.jpg", "imageData": None,
        "imageHeight": 40, "imageWidth": 60,
    }  # fmt: skip
    write_json(root / "a.json", record)


def write_labelme(root: Path) -> None:
    write_labelme_file(root, [labelme_shape()])


def write_label_studio(root: Path) -> None:
    """Windows paths, and a name from a URL."""
    draw(root / "images" / "0a1b-a b.jpg")
    write_json(root / "result.json", coco("images\\0a1b-a%20b.jpg"))


WRITERS: dict[str, tuple[Callable[[Path], None], bool]] = {
    "ours": (write_ours, True),
    "coco": (write_coco, True),
    "cvat": (write_cvat, False),
    "roboflow": (write_roboflow, True),
    "fiftyone": (write_fiftyone, False),
    "yolo": (write_yolo, True),
    "voc": (write_voc, True),
    "labelme": (write_labelme, False),
    "json": (write_label_studio, False),
}
"""Layout -> function that writes it, and whether it has splits."""


def test_every_layout_is_tried_here() -> None:
    assert set(WRITERS) == set(LAYOUTS)


@pytest.mark.parametrize("name", WRITERS)
class TestLayout:
    def test_is_found_and_said(self, tmp_path: Path, name: str) -> None:
        write, is_divided = WRITERS[name]
        write(tmp_path)
        assert find_layout(tmp_path).__name__ == LAYOUTS[name]
        assert "{" not in describe_layout(tmp_path)
        assert has_split(tmp_path, "val") is is_divided

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_has_the_object(self, tmp_path: Path, name: str, split: str) -> None:
        WRITERS[name][0](tmp_path)
        data = load(tmp_path, split)
        image = data.images[0]
        (found,) = data.annotations(image.id)
        assert data.categories[found["category_id"]] == "cup"
        assert image.path.is_file() and (image.height, image.width) == SIZE_HW
        assert np.array_equal(decode_mask(found), MASK)
        if split == "train":
            assert data.classes == ("cup",)

    def test_is_written_as_coco(self, cli: Callable, tmp_path: Path, name: str) -> None:
        WRITERS[name][0](tmp_path / "source")
        outcome = cli("data", "convert", tmp_path / "source", "-o", tmp_path / "coco")
        assert outcome.code == 0 and outcome.out.splitlines()[-1] == f"next: edge-mrcnn data check {tmp_path / 'coco'}"
        data = load(tmp_path / "coco", "train")
        (found,) = data.annotations(data.images[0].id)
        assert np.array_equal(decode_mask(found), MASK)
        assert data.images[0].path.parent == tmp_path / "coco" / "images" / "train"


class TestYolo:
    def test_box_is_an_object_without_an_outline(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        (tmp_path / "train" / "labels" / "a.txt").write_text(f"1 {35 / 60} {20 / 40} {30 / 60} {20 / 40}\n")
        data = load(tmp_path, "train")
        (found,) = data.objects(data.images[0].id)
        assert found["segmentation"] is None and found["bbox"] == pytest.approx([20, 10, 30, 20])
        assert data.annotations(data.images[0].id) == []

    def test_class_that_has_no_name_is_named(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        (tmp_path / "train" / "labels" / "a.txt").write_text("7 0.1 0.1 0.5 0.1 0.5 0.5\n")
        with pytest.raises(DataError, match=r"category that is not listed: train: image 1, a\.jpg, object a\.txt:1"):
            load(tmp_path, "train")

    @pytest.mark.parametrize(
        "line",
        ["1 0.1 0.1 0.5 0.1 0.5", "1 a b c d e f", "cup 0.1 0.1 0.5 0.1 0.5 0.5", "1 nan 0 0 1 1 1", "1 60 0 0 1 1 1"],
    )
    def test_line_that_cannot_be_read_is_named(self, tmp_path: Path, line: str) -> None:
        write_yolo(tmp_path)
        (tmp_path / "train" / "labels" / "a.txt").write_text(line)
        with pytest.raises(DataError, match=r"a\.txt:1"):
            load(tmp_path, "train")

    def test_pictures_without_any_labels_are_refused(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        (tmp_path / "train" / "labels" / "a.txt").unlink()
        with pytest.raises(DataError, match="none of 2 images has a label file"):
            load(tmp_path, "train")

    def test_file_and_names_by_number_are_taken(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        (tmp_path / "list.txt").write_text("./train/images/a.jpg\n")
        (tmp_path / "data.yaml").write_text("path: .\ntrain: list.txt\nnames:\n  1: cup\n")
        data = load(tmp_path / "data.yaml", "train")
        assert data.classes == ("cup",) and len(data.images) == 1
        assert not has_split(tmp_path, "val")

    def test_description_may_have_any_name_if_it_is_the_only_one(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        (tmp_path / "data.yaml").rename(tmp_path / "street.yaml")
        (tmp_path / "config.yaml").write_text("train: {epochs: 3}\n")
        assert load(tmp_path, "train").classes == ("cup",)

    def test_names_in_another_encoding_are_refused(self, tmp_path: Path) -> None:
        write_yolo(tmp_path / "all")
        (tmp_path / "all" / "train" / "classes.txt").write_bytes(b"caf\xe9\n")
        with pytest.raises(DataError, match="expected text in UTF-8"):
            load(tmp_path / "all" / "train", "train")

    def test_training_pictures_are_no_validation(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        (tmp_path / "data.yaml").write_text("train: train/images\nval: train/images\nnames: [plate, cup]\n")
        assert not has_split(tmp_path, "val")

    def test_classes_beside_images_and_labels(self, tmp_path: Path) -> None:
        write_yolo(tmp_path / "all")
        (tmp_path / "all" / "train" / "classes.txt").write_text("plate\ncup\n")
        assert load(tmp_path / "all" / "train", "train").classes == ("cup",)


class TestLabelme:
    def test_shapes_of_a_group_are_one_object(self, tmp_path: Path) -> None:
        left = labelme_shape(group_id=3, points=[[20, 10], [35, 10], [35, 30], [20, 30]])
        right = labelme_shape(group_id=3, points=[[35, 10], [50, 10], [50, 30], [35, 30]])
        write_labelme_file(tmp_path, [left, right, labelme_shape(group_id=4), labelme_shape(label="plate", group_id=3)])
        data = load(tmp_path, "train")
        masks = [decode_mask(found) for found in data.annotations(data.images[0].id)]
        assert len(masks) == 3 and all(np.array_equal(mask, MASK) for mask in masks)

    def test_rectangle_is_a_box_and_a_line_is_nothing(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        box = labelme_shape(shape_type="rectangle", points=[[50, 30], [20, 10]])
        line = labelme_shape(shape_type="linestrip", label="crack")
        write_labelme_file(tmp_path, [box, line, labelme_shape(label="plate")])
        data = load(tmp_path, "train")
        boxes = [found["bbox"] for found in data.objects(1) if found["segmentation"] is None]
        assert boxes == [[20, 10, 30, 20]] and data.classes == ("cup", "plate")
        assert "1 line or point is not an object and is left out" in caplog.text

    def test_circle_and_mask(self, tmp_path: Path) -> None:
        png = cv2.imencode(".png", 255 * MASK[10:30, 20:50])[1]
        mask = labelme_shape(shape_type="mask", points=[[20, 10], [49, 29]], mask=base64.b64encode(png).decode())
        circle = labelme_shape(shape_type="circle", points=[[30, 20], [40, 20]], label="plate")
        write_labelme_file(tmp_path, [mask, circle])
        first, second = load(tmp_path, "train").annotations(1)
        assert np.array_equal(decode_mask(first), MASK)
        assert second["area"] == pytest.approx(np.pi * 100, rel=0.03)

    def test_background_is_left_out(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_labelme_file(tmp_path, [labelme_shape(), labelme_shape(label="_background_")])
        assert load(tmp_path, "train").classes == ("cup",)
        assert "1 x category for the background" in caplog.text


class TestVoc:
    def test_colour_of_no_class_is_named(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        (tmp_path / "VOCdevkit" / "VOC2012" / "labelmap.txt").write_text("cup:1,2,3::\n")
        with pytest.raises(
            DataError, match=r"unknown class colour of an object in SegmentationClass.a\.png: 128,0,128"
        ):
            load(tmp_path, "train")

    def test_palette_is_that_of_voc(self) -> None:
        assert [palette_color(index) for index in (1, 2, 8, 20)] == [(128, 0, 0), (0, 128, 0), (64, 0, 0), (0, 64, 128)]


class TestNothing:
    def test_folder_without_a_data_set_says_what_is_expected(self, tmp_path: Path) -> None:
        draw(tmp_path / "a.jpg")
        with pytest.raises(MissingFileError, match=r"no data set in a known layout; expected .*data\.yaml"):
            load(tmp_path, "train")

    @pytest.mark.parametrize(
        ("record", "what"),
        [
            ({"shapes": []}, "a labelme file of one image; give the folder"),
            ({"a.jpg1": {"filename": "a.jpg", "regions": []}}, "VIA.*export it as COCO"),
            ([{"image": "a.jpg", "annotations": []}], "CreateML"),
            ({"images": []}, "annotations, categories is missing"),
        ],
    )
    def test_json_of_another_tool_is_named(self, tmp_path: Path, record: Any, what: str) -> None:
        with pytest.raises(DataError, match=what):
            load(write_json(tmp_path / "other.json", record), "train")

    def test_layout_without_the_split_is_named(self, tmp_path: Path) -> None:
        write_ours(tmp_path)
        (tmp_path / "annotations" / "instances_val.json").unlink()
        with pytest.raises(MissingFileError, match="without a val split"):
            load(tmp_path, "val")


class TestCalibration:
    @pytest.mark.parametrize("name", WRITERS)
    def test_pictures_to_train_on_are_taken(self, tmp_path: Path, name: str) -> None:
        WRITERS[name][0](tmp_path)
        files = load_calibration(str(tmp_path)).files
        assert files == tuple(image.path for image in load(tmp_path, "train").images)

    def test_folder_of_pictures_is_taken_whole(self, tmp_path: Path) -> None:
        pictures = [draw(tmp_path / "one" / "a.jpg"), draw(tmp_path / "two" / "b.jpg")]
        assert load_calibration(str(tmp_path)).files == tuple(pictures)


class TestConvert:
    def test_nothing_is_written_over(self, cli: Callable, tmp_path: Path) -> None:
        write_ours(tmp_path / "source")
        draw(tmp_path / "coco" / "mine.jpg")
        outcome = cli("data", "convert", tmp_path / "source", "-o", tmp_path / "coco")
        assert outcome.code == 2 and [p.name for p in (tmp_path / "coco").iterdir()] == ["mine.jpg"]

    def test_pictures_of_one_name_get_two(self, cli: Callable, tmp_path: Path) -> None:
        record = coco("one/a.jpg")
        record["images"].append({**record["images"][0], "id": 1, "file_name": "two/a.jpg"})
        for folder in ("one", "two"):
            draw(tmp_path / "source" / folder / "a.jpg")
        write_json(tmp_path / "source" / "coco.json", record)
        assert cli("data", "convert", tmp_path / "source", "-o", tmp_path / "coco").code == 0
        images = load(tmp_path / "coco", "train").images
        assert [image.path.name for image in images] == ["a.jpg", "two_a.jpg"]
        assert all(image.path.is_file() for image in images)

    def test_box_without_an_outline_stays_one(self, cli: Callable, tmp_path: Path) -> None:
        record = coco()
        record["annotations"].append({"id": 2, "image_id": 0, "category_id": 1, "bbox": [1, 2, 30, 20]})
        draw(tmp_path / "source" / "a.jpg")
        write_json(tmp_path / "source" / "coco.json", record)
        assert cli("data", "convert", tmp_path / "source", "-o", tmp_path / "coco").code == 0
        assert [found["segmentation"] is None for found in load(tmp_path / "coco", "train").objects(0)] == [False, True]
