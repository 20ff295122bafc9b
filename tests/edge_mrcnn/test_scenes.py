"""Generated scenes: determinism, exact masks, and no overlap of validation with training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("skimage", reason="pip install 'edge-mrcnn[demo]'")
coco_mask = pytest.importorskip("pycocotools.mask", reason="pip install 'edge-mrcnn[train]'")

from edge_mrcnn.cli.scenes import command  # noqa: E402
from edge_mrcnn.data.scenes import CLASSES, make_dataset, make_example, render_video  # noqa: E402
from edge_mrcnn.data.scenes.compose import draw_scene, make_scene, visible_masks  # noqa: E402
from edge_mrcnn.data.scenes.cutouts import COIN_ROW_SPLIT_Y, cut_objects, trace_coins  # noqa: E402
from edge_mrcnn.data.scenes.dataset import SPLIT_STREAMS, make_real_examples  # noqa: E402
from edge_mrcnn.data.scenes.photographs import PHOTOGRAPHS, read_photograph  # noqa: E402
from edge_mrcnn.data.scenes.surfaces import list_surfaces  # noqa: E402
from edge_mrcnn.data.scenes.video import film  # noqa: E402
from runtimes.errors import DataError, UsageError  # noqa: E402

SPLITS = ("train", "val", "real")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    make_dataset(folder, train=12, val=6, seed=3)
    return folder


def read_split(folder: Path, split: str) -> dict:
    return json.loads((folder / "annotations" / f"instances_{split}.json").read_text())


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photograph_ships_with_scikit_image(name: str) -> None:
    image = read_photograph(name)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def test_each_coin_is_traced_once_as_a_round_outline() -> None:
    rims = [rim.astype(np.float32) for rim in trace_coins()]
    areas = np.array([cv2.contourArea(rim) for rim in rims])
    perimeters = np.array([cv2.arcLength(cv2.convexHull(rim), True) for rim in rims])
    assert len(rims) == 24
    assert (areas > 1000).all() and (areas < 3500).all()
    assert (4 * np.pi * areas / perimeters**2 > 0.9).all()
    assert sum(rim[:, 1].mean() > COIN_ROW_SPLIT_Y for rim in rims) == 12


def test_every_class_has_objects_on_both_sides() -> None:
    for held_out in (False, True):
        groups = cut_objects(held_out)
        assert len(groups) == len(CLASSES) and all(groups)
        assert all(cutout.label == label for label, group in enumerate(groups) for cutout in group)


def test_validation_shows_no_cutout_and_no_surface_of_training() -> None:
    trained = {cutout.levels[0].tobytes() for group in cut_objects(False) for cutout in group}
    held_out = {cutout.levels[0].tobytes() for group in cut_objects(True) for cutout in group}
    assert not trained & held_out
    ground = {surface.levels[0].tobytes() for surface in list_surfaces(False)}
    assert not ground & {surface.levels[0].tobytes() for surface in list_surfaces(True)}


def test_same_seed_gives_same_annotations_and_pixels(dataset: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path, train=12, val=6, seed=3)
    for split in SPLITS:
        name = f"annotations/instances_{split}.json"
        assert (dataset / name).read_bytes() == (tmp_path / name).read_bytes()
        for image in sorted((dataset / "images" / split).iterdir()):
            assert image.read_bytes() == (tmp_path / "images" / split / image.name).read_bytes()


def test_scene_does_not_depend_on_how_many_there_are(dataset: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path, train=2, val=1, seed=3)
    image = "images/train/000002.jpg"
    assert (dataset / image).read_bytes() == (tmp_path / image).read_bytes()


def test_seeds_and_splits_give_different_scenes() -> None:
    pictures = [make_example(split, 0, seed=seed).image.tobytes() for split in SPLIT_STREAMS for seed in (0, 1)]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize("split", SPLITS)
def test_annotations_describe_their_masks(dataset: Path, split: str) -> None:
    record = read_split(dataset, split)
    images = {image["id"]: image for image in record["images"]}
    assert [category["name"] for category in record["categories"]] == list(CLASSES)
    assert len({a["id"] for a in record["annotations"]}) == len(record["annotations"]) > 0
    for annotation in record["annotations"]:
        image = images[annotation["image_id"]]
        mask = coco_mask.decode(annotation["segmentation"])
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        box = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert mask.shape == (image["height"], image["width"])
        assert annotation["area"] == mask.sum() >= 40
        assert annotation["bbox"] == box
        assert annotation["iscrowd"] == 0


@pytest.mark.parametrize("split", SPLITS)
def test_files_have_the_stated_size(dataset: Path, split: str) -> None:
    for image in read_split(dataset, split)["images"]:
        pixels = cv2.imread(str(dataset / "images" / split / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3)


def test_masks_of_a_scene_do_not_overlap() -> None:
    for index in range(10):
        assert np.sum(make_example("train", index).masks, axis=0).max(initial=0) <= 1


def test_mask_is_where_the_object_changes_the_picture() -> None:
    size = (200, 240)
    for index in range(6):
        scene = make_scene(np.random.default_rng(index), held_out=False, size_hw=size, count=6)
        empty = draw_scene(replace(scene, placements=()), size)
        full = draw_scene(scene, size)
        changed = np.abs(full.image.astype(int) - empty.image).max(2) > 0
        for mask in visible_masks(full.owner, len(scene.placements)):
            assert changed[mask].mean() > 0.9


def test_no_object_is_hidden_beyond_recognition() -> None:
    for index in range(10):
        scene = make_scene(np.random.default_rng(index), held_out=True, size_hw=(320, 320), count=12)
        owner = draw_scene(scene, (320, 320)).owner
        alone = [replace(scene, placements=(placement,)) for placement in scene.placements]
        in_frame = [np.count_nonzero(draw_scene(one, (320, 320)).owner == 0) for one in alone]
        visible = [np.count_nonzero(mask) for mask in visible_masks(owner, len(alone))]
        assert all(part >= 0.39 * whole for part, whole in zip(visible, in_frame, strict=True))


def test_scenes_are_empty_crowded_small_and_large() -> None:
    examples = [make_example("train", index) for index in range(80)]
    counts = [len(example.labels) for example in examples]
    sides = [mask.sum() ** 0.5 for example in examples for mask in example.masks]
    assert min(counts) == 0 and max(counts) >= 8
    assert min(sides) < 20 and max(sides) > 140
    assert {label for example in examples for label in example.labels} == set(range(len(CLASSES)))


@pytest.mark.parametrize("size_hw", [(64, 64), (256, 448), (640, 640)])
def test_scene_has_the_size_asked_for(size_hw: tuple[int, int]) -> None:
    example = make_example("val", 1, size_hw=size_hw)
    assert example.image.shape == (*size_hw, 3)
    assert all(mask.shape == size_hw for mask in example.masks)


def test_real_split_shows_held_out_coins_and_empty_photographs() -> None:
    examples = list(make_real_examples())
    coins = [example for example in examples if example.labels]
    assert len(coins) >= 10 and len(examples) - len(coins) == 3
    assert {label for example in coins for label in example.labels} == {CLASSES.index("coin")}
    assert len(coins[0].masks) == 12
    for example in coins:
        inside = np.any(example.masks, axis=0)
        assert example.image[inside].mean() > 1.4 * example.image[~inside].mean()


@pytest.mark.parametrize("settings", [{"train": 0}, {"val": 0}, {"seed": -1}, {"size_hw": (320, 32)}])
def test_dataset_refuses_what_cannot_be_made(tmp_path: Path, settings: dict) -> None:
    with pytest.raises(UsageError, match="expected at least 1 scene"):
        make_dataset(tmp_path, **{"train": 1, "val": 1, **settings})


def test_progress_counts_every_scene(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    make_dataset(tmp_path, train=2, val=1, progress=lambda what, done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_video_moves_and_is_deterministic() -> None:
    settings = {"seconds": 0.4, "fps": 10, "size_hw": (96, 128), "seed": 5}
    first, again = list(film(**settings)), list(film(**settings))
    assert len(first) == 4 and all(frame.shape == (96, 128, 3) for frame in first)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert np.abs(first[0].astype(int) - first[-1]).mean() > 1


def test_video_file_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "scenes.mp4"
    render_video(path, seconds=0.5, fps=10, size_hw=(96, 128))
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (grabbed := capture.read())[0]:
        frames.append(grabbed[1])
    original = next(film(seconds=0.1, fps=10, size_hw=(96, 128), seed=0))
    assert len(frames) == 5
    assert np.abs(frames[0][..., ::-1].astype(int) - original).mean() < 12


def test_video_refuses_odd_sides_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="even sides"):
        render_video(tmp_path / "a.mp4", size_hw=(97, 128))
    with pytest.raises(DataError, match="cannot write the video"):
        render_video(tmp_path / "missing" / "a.mp4", seconds=0.1, fps=10, size_hw=(96, 128))


def test_verb_writes_data_and_names_the_next_step(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    result = CliRunner().invoke(command, ["--train", "2", "--val", "1", "--imgsz", "96x128", "-o", str(folder)])
    assert result.exit_code == 0, result.output
    assert f"edge-mrcnn train --data {folder} --imgsz 96x128" in result.output
    assert len(list((folder / "images" / "train").iterdir())) == 2
