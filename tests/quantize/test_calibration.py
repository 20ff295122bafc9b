"""Calibration sets: valid ones, rejected ones, and that the committed set is intact."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from quantize.calibration import CalibrationSet, describe_image, read_manifest, write_manifest
from runtimes.errors import DataError, EdgeError, ImageError, MissingFileError, UsageError
from runtimes.model_card import ModelCard
from runtimes.preprocess import letterbox

COMMITTED = Path(__file__).parents[2] / "calib_data"
CARD = ModelCard(
    name="nano",
    classes=("coin",),
    category_ids=(1,),
    input_size_hw=(64, 96),
    pad_rgb=(114, 114, 114),
    proposals=10,
    max_detections=5,
    mask_size=28,
    score_threshold=0.05,
    iou_threshold=0.5,
)


def write_pictures(folder: Path, count: int = 5) -> list[str]:
    """Pictures of different sizes whose red level is their index times ten; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index}.png" for index in range(count)]
    for index, name in enumerate(names):
        picture = np.zeros((40 + index, 50, 3), np.uint8)
        picture[..., 2] = 10 * index
        cv2.imwrite(str(folder / name), picture)
    return names


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    names = write_pictures(tmp_path / "images")
    about = {"source": "drawn", "licence": "CC0", "why": "test"}
    return write_manifest(tmp_path, [describe_image(tmp_path, f"images/{name}", **about) for name in names])


def write_coco(root: Path) -> Path:
    names = write_pictures(root / "images" / "train", 3)
    write_pictures(root / "images" / "val", 5)
    file = root / "annotations" / "instances_train.json"
    file.parent.mkdir()
    images = [{"id": i, "file_name": name, "width": 50, "height": 40 + i} for i, name in enumerate(names)]
    file.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    return file


def red_levels(pictures: CalibrationSet, **choice: int) -> list[int]:
    return [int(image[0, 0, 0]) for image in pictures.images(**choice)]


def test_manifest_and_its_folder_open_the_same_set(manifest: Path) -> None:
    by_file, by_folder = CalibrationSet.load(manifest), CalibrationSet.load(manifest.parent)
    assert by_file == by_folder
    assert len(by_file) == 5
    assert by_file.manifest_sha256 == hashlib.sha256(manifest.read_bytes()).hexdigest()


def test_images_are_rgb_in_the_order_of_the_manifest(manifest: Path) -> None:
    images = list(CalibrationSet.load(manifest).images())
    assert [image.shape for image in images] == [(40 + index, 50, 3) for index in range(5)]
    assert [tuple(image[0, 0]) for image in images] == [(10 * index, 0, 0) for index in range(5)]


def test_images_are_opened_one_at_a_time(manifest: Path) -> None:
    images = CalibrationSet.load(manifest).images()
    next(images)
    (manifest.parent / "images" / "1.png").unlink()
    with pytest.raises(MissingFileError, match=r"1\.png"):
        next(images)


def test_limit_picks_by_seed_and_never_twice(manifest: Path) -> None:
    pictures = CalibrationSet.load(manifest)
    picks = [red_levels(pictures, limit=3, seed=seed) for seed in range(8)]
    assert picks[0] == red_levels(pictures, limit=3, seed=0)
    assert all(len(set(pick)) == 3 for pick in picks)
    assert len(set(map(tuple, picks))) > 1
    assert red_levels(pictures, limit=100) == [0, 10, 20, 30, 40]


def test_limit_below_one_is_refused(manifest: Path) -> None:
    with pytest.raises(UsageError, match="limit of 0"):
        CalibrationSet.load(manifest).images(limit=0)


def test_tensors_are_what_the_camera_feeds(manifest: Path) -> None:
    pictures = CalibrationSet.load(manifest)
    for tensor, image in zip(pictures.tensors(CARD), pictures.images(), strict=True):
        assert tensor.shape == (1, 64, 96, 3) and tensor.dtype == np.uint8
        assert np.array_equal(tensor, letterbox(image, CARD)[0])


def test_plain_folder_is_a_set(tmp_path: Path) -> None:
    write_pictures(tmp_path / "deep")
    (tmp_path / "notes.txt").write_text("not a picture")
    assert red_levels(CalibrationSet.load(tmp_path)) == [0, 10, 20, 30, 40]


def test_plain_folder_has_a_hash_that_follows_its_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pictures(tmp_path / name)
    same = CalibrationSet.load(tmp_path / "a").manifest_sha256
    assert same == CalibrationSet.load(tmp_path / "b").manifest_sha256
    write_pictures(tmp_path / "b", 6)
    assert same != CalibrationSet.load(tmp_path / "b").manifest_sha256


@pytest.mark.parametrize("as_folder", [True, False])
def test_coco_data_gives_its_train_split(tmp_path: Path, as_folder: bool) -> None:
    file = write_coco(tmp_path)
    assert red_levels(CalibrationSet.load(tmp_path if as_folder else file)) == [0, 10, 20]


def test_changed_picture_is_named(manifest: Path) -> None:
    cv2.imwrite(str(manifest.parent / "images" / "3.png"), np.zeros((43, 50, 3), np.uint8))
    with pytest.raises(DataError, match=r"3\.png: its hash differs"):
        CalibrationSet.load(manifest)


def test_missing_picture_is_named(manifest: Path) -> None:
    (manifest.parent / "images" / "2.png").unlink()
    with pytest.raises(MissingFileError, match=r"2\.png"):
        CalibrationSet.load(manifest)


def test_missing_coco_picture_is_named(tmp_path: Path) -> None:
    file = write_coco(tmp_path)
    (tmp_path / "images" / "train" / "1.png").unlink()
    with pytest.raises(MissingFileError, match=r"1\.png"):
        CalibrationSet.load(file)


def test_damaged_picture_of_a_plain_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        list(CalibrationSet.load(tmp_path).images())


def edit(manifest: Path, change: Callable[[dict], object]) -> None:
    record = json.loads(manifest.read_text())
    change(record)
    manifest.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(images=[]), "lists no images"),
        (lambda record: record.update(version=2), "version 2"),
        (lambda record: record.pop("version"), "expected a manifest"),
        (lambda record: record["images"][1].pop("licence"), "entry 1 lacks licence"),
        (lambda record: record["images"][0].update(file="../secret.png"), "inside the manifest's folder"),
        (lambda record: record["images"][0].update(file="/secret.png"), "inside the manifest's folder"),
        (lambda record: record["images"][4].update(width=51), "says 51 x 44"),
    ],
)
def test_faulty_manifest_is_refused(manifest: Path, change: Callable[[dict], object], message: str) -> None:
    edit(manifest, change)
    with pytest.raises(DataError, match=message):
        CalibrationSet.load(manifest)


@pytest.mark.parametrize("text", ["", "[1, 2]", '"text"', '{"images": [{}], "annotations": []}'])
def test_other_json_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        CalibrationSet.load(file)
    assert "\n" not in str(caught.value)


def test_empty_and_absent_sets_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected 100 to 300"):
        CalibrationSet.load(tmp_path)
    with pytest.raises(MissingFileError, match="no such calibration set"):
        CalibrationSet.load(tmp_path / "absent")
    with pytest.raises(DataError, match="at least one calibration image"):
        write_manifest(tmp_path, [])


def test_only_pictures_can_be_described(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    for file, error in (("a.jpg", DataError), ("b.jpg", MissingFileError)):
        with pytest.raises(error) as caught:
            describe_image(tmp_path, file, source="", licence="", why="")
        assert isinstance(caught.value, EdgeError)


def test_committed_manifest_matches_the_committed_pictures() -> None:
    pictures = CalibrationSet.load(COMMITTED)
    on_disk = sorted((COMMITTED / "images").iterdir())
    assert sorted(pictures.files) == on_disk
    assert len(pictures) == 32
    assert sum(file.stat().st_size for file in on_disk) < 1_500_000
    assert all(entry.source and entry.licence and entry.why for entry in read_manifest(COMMITTED / "manifest.json"))


def test_committed_pictures_are_what_the_readme_command_makes(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="pip install 'edge-mrcnn[demo]'")
    from edge_mrcnn.data.scenes import make_calibration_set

    made = CalibrationSet.load(make_calibration_set(tmp_path, count=4))
    for image, committed in zip(made.images(), CalibrationSet.load(COMMITTED).images(), strict=False):
        assert np.abs(image.astype(int) - committed).mean() < 4  # not bytes: OpenCV's JPEG encoder differs by version
