"""The COCO loader: every form of outline gives the same mask, and faults are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

coco_mask = pytest.importorskip("pycocotools.mask", reason="pip install 'edge-mrcnn[report]'")

from edge_mrcnn import data as data_sets  # noqa: E402
from edge_mrcnn.data.coco import decode_mask  # noqa: E402
from runtimes.errors import DataError, MissingFileError  # noqa: E402

MASK = np.zeros((40, 60), np.uint8, order="F")
MASK[10:30, 20:50] = 1
"""The object of these tests: 20 rows, 30 columns."""


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": counts}


def compressed(mask: np.ndarray, kind: type) -> dict[str, Any]:
    encoded = coco_mask.encode(mask)
    return {**encoded, "counts": encoded["counts"].decode() if kind is str else encoded["counts"]}


POLYGON = [[20, 10, 50, 10, 50, 30, 20, 30]]
OUTLINES = {
    "polygon": POLYGON,
    "two polygons": [[20, 10, 35, 10, 35, 30, 20, 30], [35, 10, 50, 10, 50, 30, 35, 30]],
    "a polygon and a stray point": [*POLYGON, [3, 3]],
    "uncompressed RLE": uncompressed(MASK),
    "compressed RLE": compressed(MASK, str),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a data set of two images, 7 and 9, with changes on top."""

    def write_file(annotations: Any = None, **changes: Any) -> Path:
        record = {
            "images": [
                {"id": 7, "file_name": "a.png", "height": 40, "width": 60},
                {"id": 9, "file_name": "b.png", "height": 40, "width": 60},
            ],
            "categories": [{"id": 90, "name": "last"}, {"id": 3, "name": "first"}],
            "annotations": [] if annotations is None else annotations,
            **changes,
        }
        path = tmp_path / "data.json"
        path.write_text(json.dumps(record))
        return path

    return write_file


def annotate(segmentation: Any, **changes: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 7, "category_id": 90, "segmentation": segmentation, "iscrowd": 0, **changes}


@pytest.mark.parametrize("kind", OUTLINES)
def test_every_outline_is_the_same_mask(write: Callable[..., Path], kind: str) -> None:
    (found,) = data_sets.load(write([annotate(OUTLINES[kind])])).annotations(7)
    assert np.array_equal(decode_mask(found), MASK)
    assert found["bbox"] == [20, 10, 30, 20]
    assert found["area"] == 600


def test_box_and_area_of_the_file_are_kept(write: Callable[..., Path]) -> None:
    (found,) = data_sets.load(write([annotate(POLYGON, bbox=[19.5, 10, 31, 20], area=601.5)])).annotations(7)
    assert (found["bbox"], found["area"]) == ([19.5, 10, 31, 20], 601.5)


def test_ids_may_be_sparse_and_unsorted(write: Callable[..., Path]) -> None:
    data = data_sets.load(write([annotate(POLYGON)]))
    assert data.classes == ("first", "last")
    assert data.category_ids == (3, 90)
    assert [image.id for image in data.images] == [7, 9]


def test_image_without_objects_is_kept(write: Callable[..., Path]) -> None:
    data = data_sets.load(write([annotate(POLYGON)]))
    assert len(data.images) == 2
    assert data.annotations(9) == []


def test_crowd_is_marked(write: Callable[..., Path]) -> None:
    (crowd,) = data_sets.load(write([annotate(uncompressed(MASK), iscrowd=1)])).annotations(7)
    assert crowd["iscrowd"] == 1


@pytest.mark.parametrize(
    "outline",
    [None, [], [[5, 5]], [[5, 5, 9, 9]], [[200, 200, 210, 200, 210, 210]], uncompressed(np.zeros((40, 60), np.uint8))],
)
def test_object_without_a_visible_area_is_left_out(write: Callable[..., Path], outline: Any) -> None:
    data = data_sets.load(write([annotate(outline), annotate(POLYGON)]))
    assert (len(data.annotations(7)), data.dropped) == (1, 1)


@pytest.mark.parametrize("text", ["", "{", "not json", '{"images": [1, 2', "\ufeff", "[]", '"text"', "12", "null"])
def test_file_that_is_no_coco_json_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"data\.json") as caught:
        data_sets.load(path)
    assert "\n" not in str(caught.value)


def test_binary_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match=r"data\.json"):
        data_sets.load(tmp_path / "data.json")


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_missing_table_is_named(write: Callable[..., Path], key: str) -> None:
    path = write()
    record = json.loads(path.read_text())
    del record[key]
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=key):
        data_sets.load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": [{"id": 7, "height": 40, "width": 60}]},
        {"images": [{"id": 7, "file_name": "a.png"}]},
        {"images": [{"id": "seven", "file_name": "a.png", "height": 40, "width": 60}]},
        {"images": ["a.png"]},
        {"images": 5},
        {"categories": [{"id": 90}]},
        {"categories": [{"name": "x"}]},
        {"annotations": [annotate(POLYGON, image_id=8)]},
        {"annotations": [annotate(POLYGON, category_id=4)]},
        {"annotations": [{"id": 1, "segmentation": POLYGON}]},
        {"annotations": [annotate({"size": [40, 60]})]},
        {"annotations": [annotate({"size": [40, 60], "counts": "@@@@"})]},
        {"annotations": [annotate({"size": [40, 60], "counts": [5, -3, 9]})]},
        {"annotations": [annotate(uncompressed(MASK.T))]},
        {"annotations": [annotate(compressed(MASK.T.copy(order="F"), str))]},
        {"annotations": 5},
        {"annotations": [annotate([["a", "b", "c", "d", "e", "f"]])]},
        {"annotations": [annotate(POLYGON, bbox=[1, 2])]},
        {"annotations": ["text"]},
        {"images": []},
        {"categories": []},
    ],
)
def test_broken_record_is_one_line(write: Callable[..., Path], changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"data\.json") as caught:
        data_sets.load(write(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", ["images/val", "val", "images", "annotations"])
def test_pictures_are_looked_for_in_the_usual_places(write: Callable[..., Path], tmp_path: Path, layout: str) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / layout).mkdir(parents=True, exist_ok=True)
    write().rename(tmp_path / "annotations" / "instances_val.json")
    assert data_sets.load(tmp_path, "val").images[0].path == tmp_path / layout / "a.png"


def test_path_that_is_not_there_says_what_is_expected(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(MissingFileError, match=r"annotations/instances_train\.json"):
            data_sets.load(path, "train")
