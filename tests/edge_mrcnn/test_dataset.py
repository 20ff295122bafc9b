"""Training samples: picture and outlines agree in every augmented view, and a view depends on its seed alone."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
coco_mask = pytest.importorskip("pycocotools.mask", reason="pip install 'edge-mrcnn[report]'")

from edge_mrcnn.config import TrainConfig  # noqa: E402
from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.data.augment import Placing, Span, fit_mask, jitter_color, paste_objects  # noqa: E402
from edge_mrcnn.data.coco import CocoData, CocoImage  # noqa: E402
from edge_mrcnn.data.dataset import InstanceDataset, fill_box  # noqa: E402
from edge_mrcnn.data.loader import EpochSampler, train_loader  # noqa: E402
from edge_mrcnn.data.outlines import (  # noqa: E402
    BrokenOutlineError,
    Part,
    compress_polygons,
    cut_mask,
    paste_part,
    read_counts,
)
from edge_mrcnn.data.targets import make_target, unpack_masks  # noqa: E402
from runtimes.errors import DataError  # noqa: E402

PAD = (10, 20, 30)


def draw_ellipse() -> tuple[np.ndarray, np.ndarray]:
    """A white ellipse on black (90, 120, 3), and its mask (90, 120)."""
    mask = np.zeros((90, 120), np.uint8)
    cv2.ellipse(mask, (50, 40), (30, 18), 25, 0, 360, 1, -1)
    return np.repeat(mask[..., None] * 255, 3, axis=2), mask


def encode(mask: np.ndarray) -> dict[str, Any]:
    encoded: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask))
    return encoded


def part_of(mask: np.ndarray) -> Part:
    return cut_mask(encode(mask))


def spread(part: Part | None, size_hw: tuple[int, int]) -> np.ndarray:
    """A part on a canvas."""
    canvas = np.zeros(size_hw, np.uint8)
    if part is not None:
        paste_part(canvas, part)
    return canvas


class TestOutline:
    @pytest.mark.parametrize("seed", range(30))
    def test_cut_mask_is_that_of_pycocotools(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        size_hw = tuple(rng.integers(1, 60, 2).tolist())
        mask = (rng.random(size_hw) < rng.choice([0.02, 0.5, 1.0])).astype(np.uint8)
        mask[:, : int(rng.integers(0, 20))] = 0
        assert np.array_equal(spread(part_of(mask), size_hw), mask)

    def test_cut_mask_is_as_small_as_its_object(self) -> None:
        mask = np.zeros((400, 500), np.uint8)
        mask[100:110, 200:230] = 1
        part = part_of(mask)
        assert (part.x, part.y, part.mask.shape) == (200, 100, (10, 30))

    @pytest.mark.parametrize("step", [2, 3, 5])
    @pytest.mark.parametrize("seed", range(10))
    def test_thinned_mask_has_one_pixel_of_so_many(self, seed: int, step: int) -> None:
        rng = np.random.default_rng(seed)
        size_hw = tuple(rng.integers(step, 60, 2).tolist())
        mask = (rng.random(size_hw) < rng.choice([0.1, 0.7, 1.0])).astype(np.uint8)
        expected = mask[step // 2 :: step, step // 2 :: step]
        assert np.array_equal(spread(cut_mask(encode(mask), step), expected.shape), expected)

    def test_object_of_many_pieces_is_their_union(self) -> None:
        rng = np.random.default_rng(0)
        corners = rng.integers(0, 50, (37, 2)).astype(float)
        square = np.array([0, 0, 8, 0, 8, 8, 0, 8])
        polygons = [np.tile(corner, 4) + square for corner in corners]
        one_by_one = coco_mask.merge(coco_mask.frPyObjects([polygon.tolist() for polygon in polygons], 60, 70))
        assert compress_polygons(polygons, (60, 70)) == one_by_one

    def test_long_runs_are_read(self) -> None:
        mask = np.zeros((3000, 4000), np.uint8)
        mask[2999, 3999] = 1
        runs = read_counts(encode(mask)["counts"])
        assert runs.tolist() == [3000 * 4000 - 1, 1]

    @pytest.mark.parametrize("code", ["", "o", "~", "oooooooooooo0"])
    def test_what_is_no_code_is_refused(self, code: str) -> None:
        with pytest.raises(BrokenOutlineError):
            read_counts(code)


class TestPlacing:
    @pytest.mark.parametrize("size_hw", [(64, 64), (64, 128), (192, 128)])
    def test_mask_lies_where_the_object_is_drawn(self, size_hw: tuple[int, int]) -> None:
        image, mask = draw_ellipse()
        for seed in range(20):
            placing = Placing.choose((90, 120), size_hw, TrainConfig(), np.random.default_rng(seed))
            view = placing.place_image(image, (0, 0, 0))
            seen = spread(placing.place_mask(part_of(mask)), size_hw) > 0
            drawn = view[..., 0] > 127
            assert view.shape == (*size_hw, 3)
            assert np.count_nonzero(drawn & seen) >= 0.93 * np.count_nonzero(drawn | seen)

    def test_empty_part_has_the_border_colour(self) -> None:
        image, _ = draw_ellipse()
        config = TrainConfig(scale_jitter=(0.5, 0.5), flip=0.0)
        view = Placing.choose((90, 120), (128, 128), config, np.random.default_rng(0)).place_image(image, PAD)
        assert np.count_nonzero((view == PAD).all(2)) == 128 * 128 - 48 * 64

    def test_shorter_side_is_one_of_those_asked_for_and_the_longer_one_is_bounded(self) -> None:
        config = TrainConfig(short_sides=(64, 96), long_side=120)
        rng = np.random.default_rng(0)
        sizes = {Placing.choose((90, 120), (128, 160), config, rng).resized_hw for _ in range(20)}
        assert sizes == {(64, 85), (90, 120)}
        unbounded = TrainConfig(short_sides=(150,))
        assert Placing.choose((120, 90), (128, 160), unbounded, rng).resized_hw == (200, 150)

    def test_flip_mirrors_both(self) -> None:
        image, mask = draw_ellipse()
        plain = TrainConfig(scale_jitter=(1, 1), flip=0.0)
        straight, mirrored = (
            Placing.choose((90, 120), (90, 120), config, np.random.default_rng(0))
            for config in (plain, replace(plain, flip=1.0))
        )
        assert np.array_equal(straight.place_image(image, PAD), image)
        assert np.array_equal(spread(straight.place_mask(part_of(mask)), mask.shape), mask)
        assert np.array_equal(mirrored.place_image(image, PAD), image[:, ::-1])
        assert np.array_equal(spread(mirrored.place_mask(part_of(mask)), mask.shape), mask[:, ::-1])

    def test_object_outside_of_the_view_is_not_seen(self) -> None:
        placing = Placing((100, 100), (100, 100), (50, 50), Span(50, 0, 50), Span(50, 0, 50), False)
        assert placing.place_mask(Part(0, 0, np.ones((40, 40), np.uint8))) is None

    def test_resized_mask_keeps_its_share(self) -> None:
        _, mask = draw_ellipse()
        for size_hw in ((45, 60), (180, 240), (33, 77)):
            assert fit_mask(encode(mask), size_hw).mean() == pytest.approx(mask.mean(), rel=0.03)

    @pytest.mark.parametrize("size_hw", [(90, 120), (61, 83), (135, 180), (31, 40)])
    def test_resized_mask_lies_where_the_resized_picture_is(self, size_hw: tuple[int, int]) -> None:
        image, mask = draw_ellipse()
        touching = np.zeros_like(mask)
        touching[40:, 100:] = 1
        for object_mask, picture in ((mask, image[..., 0]), (touching, touching * 255)):
            expected = cv2.resize(picture, size_hw[::-1], interpolation=cv2.INTER_AREA) > 127
            found = fit_mask(encode(object_mask), size_hw) > 0
            assert np.count_nonzero(found & expected) >= 0.97 * np.count_nonzero(found | expected)

    @pytest.mark.parametrize("size_hw", [(60, 80), (100, 133), (150, 200)])
    def test_mask_of_a_large_picture_lies_where_the_small_picture_is(self, size_hw: tuple[int, int]) -> None:
        mask = np.zeros((1500, 2000), np.uint8)
        cv2.ellipse(mask, (1300, 700), (600, 300), 25, 0, 360, 1, -1)
        expected = cv2.resize(mask * 255, size_hw[::-1], interpolation=cv2.INTER_AREA) > 127
        found = fit_mask(encode(mask), size_hw) > 0
        assert np.count_nonzero(found & expected) >= 0.98 * np.count_nonzero(found | expected)

    def test_blank_mask_stays_blank(self) -> None:
        assert not fit_mask(encode(np.zeros((20, 30), np.uint8)), (15, 21)).any()


class TestColor:
    def test_strength_zero_changes_nothing(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        assert np.abs(jitter_color(image, 0.0, np.random.default_rng(0)).astype(int) - image).max() <= 1

    def test_result_stays_within_bytes(self) -> None:
        image = np.random.default_rng(0).choice([0, 255], (20, 30, 3)).astype(np.uint8)
        for seed in range(10):
            assert jitter_color(image, 0.9, np.random.default_rng(seed)).dtype == np.uint8

    def test_gray_picture_keeps_its_colour_and_a_colourful_one_its_level(self) -> None:
        gray = np.full((20, 30, 3), 100, np.uint8)
        for seed in range(10):
            jittered = jitter_color(gray, 0.25, np.random.default_rng(seed))
            assert np.ptp(jittered[0, 0].astype(int)) <= 1
            assert 74 <= int(jittered[0, 0, 0]) <= 126


class TestPaste:
    def test_pasted_objects_hide_what_is_behind_them(self) -> None:
        image, source = np.zeros((20, 30, 3), np.uint8), np.full((20, 30, 3), 200, np.uint8)
        parts = [Part(2, 2, np.ones((10, 20), np.uint8)), Part(2, 14, np.ones((4, 6), np.uint8))]
        source_parts = [Part(10, 0, np.ones((20, 20), np.uint8))]
        pasted, seen, chosen = paste_objects(image, parts, source, source_parts, np.random.default_rng(0))
        assert chosen.tolist() == [0] and len(seen) == 3
        assert (pasted[:, 10:] == 200).all() and not pasted[:, :10].any() and not image.any()
        target = make_target(seen, np.array([1, 2, 3]))
        assert target["boxes"].tolist() == [[2, 2, 10, 12], [2, 14, 8, 18], [10, 0, 30, 20]]

    def test_hidden_object_is_no_target(self) -> None:
        whole = [Part(0, 0, np.ones((20, 30), np.uint8))]
        image = np.zeros((20, 30, 3), np.uint8)
        _, seen, _ = paste_objects(image, whole, image, whole, np.random.default_rng(0))
        assert make_target(seen, np.array([1, 2]))["labels"].tolist() == [2]

    def test_some_objects_are_chosen_and_one_at_least(self) -> None:
        source_parts = [Part(column, 0, np.ones((1, 1), np.uint8)) for column in range(5)]
        image = np.zeros((6, 10, 3), np.uint8)
        counts = {
            len(paste_objects(image, [], image, source_parts, np.random.default_rng(seed))[2]) for seed in range(40)
        }
        assert counts == {1, 2, 3, 4, 5}

    def test_picture_without_objects_lends_none(self) -> None:
        image, mask = draw_ellipse()
        pasted, seen, chosen = paste_objects(image, [part_of(mask)], image, [], np.random.default_rng(0))
        assert np.array_equal(pasted, image) and not len(chosen)
        assert np.array_equal(spread(seen[0], mask.shape), mask)


class TestTarget:
    def test_box_ends_after_the_last_pixel(self) -> None:
        mask = np.zeros((12, 22), np.uint8)
        mask[3:9, 5:18] = 1
        target = make_target([Part(2, 1, mask)], np.array([2]))
        assert target["boxes"].tolist() == [[7, 4, 20, 10]]
        assert target["boxes"].dtype == torch.float32 and target["labels"].dtype == torch.int64

    def test_object_that_is_hardly_visible_is_dropped(self) -> None:
        sizes = ((3, 5), (1, 1), (4, 4))
        parts = [Part(0, 0, np.ones(size, np.uint8)) for size in sizes]
        assert make_target(parts, np.array([1, 2, 3]))["labels"].tolist() == [3]

    def test_nothing_is_a_target_of_no_rows(self) -> None:
        target = make_target([], np.zeros(0, np.int64))
        assert target["boxes"].shape == (0, 4) and target["masks"].shape == (0,)
        assert unpack_masks(target, torch.zeros(0, dtype=torch.long), (20, 30)).shape == (0, 20, 30)

    def test_unpacked_masks_are_those_that_were_packed(self) -> None:
        rng = np.random.default_rng(0)
        masks = [(rng.random((40, 50)) < 0.6).astype(np.uint8) * (np.arange(50) > 10 * k) for k in range(4)]
        target = make_target([part_of(mask) for mask in masks], np.arange(1, 5))
        rows = torch.tensor([3, 0, 0, 2])
        unpacked = unpack_masks(target, rows, (40, 50)).numpy()
        assert np.array_equal(unpacked, np.stack([masks[row] for row in rows]))

    def test_dense_masks_are_taken_too(self) -> None:
        dense = torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2)
        assert torch.equal(unpack_masks({"masks": dense}, torch.tensor([2, 0]), (2, 2)), dense[[2, 0]])


@pytest.fixture
def dataset(toy_data: Path) -> InstanceDataset:
    return InstanceDataset(load(toy_data, "train"), (64, 128), PAD, TrainConfig(workers=0, batch=2))


def dense_masks(target: dict[str, Any], pixels: np.ndarray) -> np.ndarray:
    """All masks (N, H, W) of a target in a view (H, W, 3)."""
    every = torch.arange(len(target["labels"]))
    return np.asarray(unpack_masks(target, every, pixels.shape[:2]))


class TestDataset:
    def test_targets_enclose_their_objects(self, dataset: InstanceDataset) -> None:
        colors = {1: (220, 60, 200), 2: (90, 220, 40)}
        dataset.config = replace(dataset.config, color_jitter=0.0)
        for epoch in range(4):
            for index in range(len(dataset)):
                image, target = dataset.view(epoch, index)
                pixels = image.permute(1, 2, 0).numpy().astype(int)
                for label, mask in zip(target["labels"].tolist(), dense_masks(target, pixels), strict=True):
                    is_object = np.abs(pixels - colors[label]).max(2) < 60
                    assert is_object[mask > 0].mean() > 0.8

    def test_pasted_objects_lie_where_they_are_drawn(self, dataset: InstanceDataset) -> None:
        colors = {1: (220, 60, 200), 2: (90, 220, 40)}
        dataset.config = replace(dataset.config, color_jitter=0.0, copy_paste=1.0)
        counts = []
        for index in range(len(dataset)):
            image, target = dataset.view(0, index)
            pixels = image.permute(1, 2, 0).numpy().astype(int)
            counts.append(len(target["labels"]))
            for label, mask in zip(target["labels"].tolist(), dense_masks(target, pixels), strict=True):
                assert (np.abs(pixels - colors[label]).max(2) < 60)[mask > 0].mean() > 0.8
        assert max(counts) > 2

    def test_view_depends_on_seed_epoch_and_index(self, dataset: InstanceDataset) -> None:
        first, again = dataset.view(3, 1)[0], dataset.view(3, 1)[0]
        assert torch.equal(first, again)
        assert not torch.equal(first, dataset.view(4, 1)[0])
        dataset.config = replace(dataset.config, seed=1)
        assert not torch.equal(first, dataset.view(3, 1)[0])

    def test_image_without_objects_has_no_rows(self, dataset: InstanceDataset) -> None:
        assert len(dataset.view(0, len(dataset) - 1)[1]["boxes"]) == 0

    def test_crowd_is_no_target(self, dataset: InstanceDataset, toy_data: Path) -> None:
        for annotation in dataset.data.by_image[5]:
            annotation["iscrowd"] = 1
        assert len(dataset.view(0, 0)[1]["boxes"]) == 0

    def test_picture_of_another_size_is_named(self, toy_data: Path, tmp_path: Path) -> None:
        record = json.loads((toy_data / "annotations" / "instances_train.json").read_text())
        record["images"][0]["width"] = 130
        path = tmp_path / "data.json"
        path.write_text(json.dumps(record))
        (tmp_path / "images").symlink_to(toy_data / "images" / "train")
        wrong = InstanceDataset(load(path), (64, 64), PAD, TrainConfig())
        with pytest.raises(DataError, match=r"0\.png: the annotation says 130x96 pixels, the file has 128x96"):
            wrong.view(0, 0)


class TestMemory:
    def test_view_of_a_crowded_picture_costs_the_picture_and_the_view(self, tmp_path: Path) -> None:
        """One mask of the whole picture for each object would be 5.4 GB."""
        cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((3000, 4000, 3), np.uint8))
        corners = [(130 * column, 190 * row) for column in range(30) for row in range(15)]
        annotations = []
        for x, y in corners:
            outline = [[x, y, x + 100, y, x + 100, y + 150, x, y + 150]]
            annotations.append({"id": len(annotations), "image_id": 1, "category_id": 1, "segmentation": outline})
        images = [{"id": 1, "file_name": "a.jpg", "height": 3000, "width": 4000}]
        record = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
        (tmp_path / "data.json").write_text(json.dumps(record))
        config = TrainConfig(scale_jitter=(1.0, 1.0))
        crowded = InstanceDataset(load(tmp_path / "data.json", "train"), (640, 640), PAD, config)
        tracemalloc.start()
        _, target = crowded.view(0, 0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(target["labels"]) == 450
        assert peak < 3 * 3000 * 4000 * 3

    def test_objects_as_large_as_their_large_picture_cost_their_view(self, tmp_path: Path) -> None:
        """Their masks in full would be 9 MB each."""
        image = CocoImage(1, tmp_path / "none.png", 3000, 3000)
        placing = Placing.whole((image.height, image.width), (64, 64))
        outline = {"size": [3000, 3000], "counts": [0, 3000 * 3000]}
        tracemalloc.start()
        parts = [
            placing.place_mask(cut_mask(coco_mask.frPyObjects(outline, 3000, 3000), placing.mask_step)),
            placing.place_mask(fill_box((0, 0, 3000, 3000), image, placing.mask_step)),
        ]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert all(part is not None and part.mask.shape == (64, 64) and part.mask.all() for part in parts)
        assert peak < 2_000_000

    def test_very_large_picture_is_decoded_smaller(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        image, _ = draw_ellipse()
        cv2.imwrite(str(tmp_path / "a.png"), cv2.resize(image, (481, 361)))
        picture = CocoImage(1, tmp_path / "a.png", 481, 361)
        data = CocoData(tmp_path, (picture,), {1: "cell"}, {})
        config = TrainConfig(scale_jitter=(1.0, 1.0), color_jitter=0.0)
        plain = InstanceDataset(data, (90, 120), PAD, config).view(0, 0)[0]
        monkeypatch.setattr("edge_mrcnn.data.dataset.LARGE_PX", 10_000)
        shrunk = InstanceDataset(data, (90, 120), PAD, config).view(0, 0)[0]
        assert shrunk.shape == plain.shape == (3, 90, 120)
        assert (shrunk.int() - plain.int()).abs().float().mean() < 3


class TestLoader:
    def test_epochs_differ_and_repeat(self) -> None:
        sampler = EpochSampler(50, seed=0)
        first = list(sampler)
        sampler.set_epoch(1)
        second = list(sampler)
        assert {index for _, index in first} == set(range(50)) == {index for _, index in second}
        assert [i for _, i in first] != [i for _, i in second]
        sampler.set_epoch(0)
        assert list(sampler) == first

    def test_processes_share_an_epoch_evenly(self) -> None:
        shares = [list(EpochSampler(11, seed=0, rank=rank, world_size=3)) for rank in range(3)]
        assert [len(share) for share in shares] == [3, 3, 3]
        assert len({index for share in shares for _, index in share}) == 9

    def test_batches_are_stacked_with_their_targets(self, dataset: InstanceDataset) -> None:
        batches = list(train_loader(dataset))
        assert len(batches) == 3
        for images, targets in batches:
            assert images.shape == (2, 3, 64, 128) and images.dtype == torch.uint8
            assert len(targets) == 2

    def test_data_smaller_than_a_batch_is_one_batch(self, dataset: InstanceDataset) -> None:
        dataset.config = replace(dataset.config, batch=100)
        assert [len(images) for images, _ in train_loader(dataset)] == [6]

    def test_worker_processes_give_the_same_samples(self, dataset: InstanceDataset) -> None:
        here = [images for images, _ in train_loader(dataset)]
        dataset.config = replace(dataset.config, workers=1)
        there = [images for images, _ in train_loader(dataset)]
        assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
