"""Tiles of a large picture: one detection for each object, at any position of the tile borders."""

import numpy as np
import pytest

from runtimes import FakeRuntime, RawOutputs, UsageError
from runtimes.base import ModelCard
from runtimes.tiling import TiledRuntime, TilingConfig, cut_axis, cut_image, resample_mask, tile_model

CARD = ModelCard(
    name="squares", classes=("red", "green"), category_ids=(1, 2), input_size_hw=(128, 128), pad_rgb=(0, 0, 0),
    proposals=8, max_detections=16, mask_size=28, score_threshold=0.05, iou_threshold=0.5, target="fake",
)  # fmt: skip
SMALLEST = 4
"""Pixels of the input that the side of an object needs to be found."""


def find_colors(x):
    """Connected areas of full red or green of the input, as a model would find them: boxes, masks, smaller ones not."""
    import cv2

    boxes, labels, masks, scores = [], [], [], []
    for label, channel in enumerate((0, 1)):
        others = np.delete(x[0], channel, axis=-1).max(axis=-1)
        mask = ((x[0][..., channel] > 100) & (others < 100)).astype(np.uint8)
        count, numbered, stats, _ = cv2.connectedComponentsWithStats(mask)
        for number in range(1, count):
            left, top, width, height, _ = stats[number]
            if min(width, height) < SMALLEST:
                continue
            part = (numbered == number)[top : top + height, left : left + width].astype(np.float32)
            boxes.append([left, top, left + width, top + height])
            labels.append(label)
            masks.append(cv2.resize(part, (28, 28), interpolation=cv2.INTER_LINEAR))
            scores.append(0.9)
    count = len(boxes)
    return RawOutputs(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64),
        np.array(masks, np.float32).reshape(count, 28, 28),
    )  # fmt: skip


def scene(height, width, *squares):
    """A grey picture with filled boxes: (label, x0, y0, x1, y1)."""
    image = np.full((height, width, 3), 60, np.uint8)
    for label, x0, y0, x1, y1 in squares:
        image[y0:y1, x0:x1] = (255, 0, 0) if label == 0 else (0, 255, 0)
    return image


def look(image, tile=128, overlap=0.2):
    return TiledRuntime(FakeRuntime(CARD, find_colors), TilingConfig(tile=tile, overlap=overlap)).infer(image)


def test_tiles_cover_the_picture_and_overlap():
    for length, tile, overlap in [
        (1080, 640, 0.2),
        (3840, 640, 0.2),
        (641, 640, 0.2),
        (1920, 640, 0.0),
        (300, 64, 0.9),
    ]:
        starts = cut_axis(length, tile, overlap)
        assert starts[0] == 0 and starts[-1] == length - tile
        assert all(1 <= step <= tile * (1 - overlap) + 1 for step in np.diff(starts))
    assert cut_axis(1920, 640, 0.0) == [0, 640, 1280], "no more than are needed"
    assert cut_axis(500, 640, 0.2) == [0]
    assert len(cut_image((1080, 1920), TilingConfig(tile=640))) == 8


def test_small_objects_are_found_in_tiles_alone():
    image = scene(512, 512, (0, 40, 40, 50, 50), (0, 300, 310, 310, 320))
    assert len(FakeRuntime(CARD, find_colors).infer(image)) == 0
    found = look(image)
    boxes = sorted(found.boxes_xyxy.round().tolist())
    assert boxes == [[40, 40, 50, 50], [300, 310, 310, 320]]
    assert found.image_size_hw == (512, 512)


@pytest.mark.parametrize("x", [60, 80, 95, 102, 110, 120, 128])
def test_object_at_a_seam_is_one(x):
    """Tiles of 512 pixels begin at 0, 96, 192, ...: in the overlap, half in it, cut by one edge or by both."""
    found = look(scene(512, 512, (0, x, 200, x + 20, 220)))
    assert found.boxes_xyxy.round().tolist() == [[x, 200, x + 20, 220]]


@pytest.mark.parametrize("shape", ["wide", "high", "large"])
def test_object_that_no_tile_holds_is_one(shape):
    box = {"wide": (20, 240, 500, 252), "high": (240, 20, 252, 500), "large": (50, 50, 450, 450)}[shape]
    found = look(scene(512, 512, (0, *box)))
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes_xyxy[0], box, atol=4)
    height, width = box[3] - box[1], box[2] - box[0]
    assert found.masks.areas[0] == pytest.approx(height * width, rel=0.1)


def test_parts_together_are_the_object():
    """12 pixels are too few for the whole picture, 480 too many for a tile."""
    found = look(scene(512, 512, (0, 20, 240, 500, 252)))
    assert found.masks.data[0][240:252, 20:500].mean() > 0.95
    assert found.masks.data[0].sum() < 1.1 * 12 * 480


def test_neighbours_and_other_classes_stay_apart():
    squares = [(0, 90, 100, 104, 120), (0, 106, 100, 120, 120), (1, 90, 122, 120, 136), (1, 400, 400, 420, 420)]
    found = look(scene(512, 512, *squares))
    boxes = sorted(
        (label, *box) for label, box in zip(found.labels.tolist(), found.boxes_xyxy.round().tolist(), strict=True)
    )
    assert boxes == [(0, 90, 100, 104, 120), (0, 106, 100, 120, 120), (1, 90, 122, 120, 136), (1, 400, 400, 420, 420)]


def test_small_picture_is_looked_at_once():
    calls = []
    model = TiledRuntime(FakeRuntime(CARD, lambda x: calls.append(1) or find_colors(x)), TilingConfig(tile=640))
    assert len(model.infer(scene(480, 640, (0, 40, 40, 140, 140)))) == 1 and len(calls) == 1


def test_picture_without_objects_has_none():
    found = look(scene(300, 500))
    assert len(found) == 0 and found.mask_probs.shape == (0, 28, 28) and set(found.speed_ms) >= {"inference"}


def test_options_of_infer_reach_every_tile():
    model = TiledRuntime(FakeRuntime(CARD, find_colors), TilingConfig(tile=128))
    image = scene(512, 512, (0, 40, 40, 60, 60), (1, 300, 300, 320, 320))
    assert model.infer(image, classes="green").class_names == ["green"]
    assert len(model.infer(image, conf=0.95)) == 0
    assert model.infer(image[..., ::-1], order="bgr").class_names == ["red", "green"]
    assert [len(found) for found in model.infer_batch([image, image])] == [2, 2]


def test_lanes_look_at_tiles_too():
    model = TiledRuntime(FakeRuntime(CARD, find_colors), TilingConfig(tile=128))
    lanes = model.lanes(2)
    assert [len(lane.infer(scene(512, 512, (0, 40, 40, 50, 50)))) for lane in lanes] == [1, 1]
    model.close()


def test_masks_keep_their_place_with_an_offset():
    card = CARD.__class__(**{**vars(CARD), "mask_offset": 0.5})
    model = TiledRuntime(FakeRuntime(card, find_colors), TilingConfig(tile=128))
    image = scene(512, 512, (0, 40, 40, 80, 80))
    tile = FakeRuntime(card, find_colors).infer(image[:128, :128])
    np.testing.assert_allclose(model.infer(image).masks.centroids[0], tile.masks.centroids[0], atol=0.3)


def test_resampled_mask_is_where_it_was():
    probs = np.zeros((28, 28), np.float32)
    probs[10:20, 5:15] = 1
    frame, wider = np.array([0, 0, 280, 280], np.float32), np.array([-140, 0, 420, 280], np.float32)
    there = resample_mask(probs, frame, wider)
    assert there.sum() == pytest.approx(probs.sum() / 2, rel=0.01) and not there[:, :7].any()
    np.testing.assert_array_equal(resample_mask(probs, frame, frame), probs)


@pytest.mark.parametrize(("tile", "overlap", "complaint"), [(16, 0.2, "--tile 16"), (640, 0.95, "--overlap 0.95")])
def test_tiles_that_cannot_be_are_refused(tile, overlap, complaint):
    with pytest.raises(UsageError, match=complaint):
        tile_model(FakeRuntime(CARD, find_colors), tile, overlap)


def test_a_source_need_not_shrink_for_it():
    model = FakeRuntime(CARD, find_colors)
    assert model.takes_resized and not tile_model(model, 128).takes_resized


def test_without_tiles_the_model_is_used_as_it_is():
    model = FakeRuntime(CARD, find_colors)
    assert tile_model(model, None) is model


def test_large_object_keeps_its_detection_from_the_whole_picture():
    """A tile that contains the whole object can miss it, while others contain parts of it that look whole."""
    whole = FakeRuntime(CARD, find_colors).infer(scene(512, 512, (0, 200, 200, 264, 280)))
    found = look(scene(512, 512, (0, 200, 200, 264, 280)))
    np.testing.assert_array_equal(found.boxes_xyxy, whole.boxes_xyxy)
    small = look(scene(512, 512, (0, 203, 203, 243, 243)))
    assert small.boxes_xyxy.round().tolist() == [[203, 203, 243, 243]], "finer than the 4 pixels of the whole"
