"""AP, categories and agreement of one or two models on painted scenes: every rectangle of one colour is one object."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from painted import CATEGORIES, OBJECTS, make_card, make_runtime, write_painted
from pycocotools import mask as rle

from edge_mrcnn.data import load
from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.evaluation.agreement import compare, image_change, match
from edge_mrcnn.evaluation.evaluate import evaluate, match_categories
from edge_mrcnn.evaluation.image_results import ImageResults
from edge_mrcnn.evaluation.metrics import coco_summary, drop_interval, measure_ap
from edge_mrcnn.evaluation.overlay import draw_objects
from runtimes import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("painted")
    write_painted(root)
    return root


@pytest.fixture(scope="module")
def data(folder: Path) -> CocoData:
    return load(folder)


class TestMetrics:
    def test_perfect_detections_give_ap_one(self, data):
        evaluation = evaluate(make_runtime(), data)
        assert evaluation.box.ap == pytest.approx(1.0)
        assert evaluation.mask.ap == pytest.approx(1.0)
        assert evaluation.mask_per_class == pytest.approx({3: 1.0, 9: 1.0})
        assert evaluation.images == len(OBJECTS)

    def test_no_detections_give_ap_zero(self, data):
        evaluation = evaluate(make_runtime(keep=0), data)
        assert evaluation.box.ap == evaluation.mask.ap == 0.0
        assert not any(evaluation.results.values())

    def test_shifted_boxes_lower_ap(self, data):
        near, far = (evaluate(make_runtime(shift=shift), data) for shift in (2, 6))
        assert 1.0 > near.box.ap > far.box.ap > 0.0
        assert 1.0 > near.mask.ap > far.mask.ap > 0.0

    def test_sizes_without_objects_are_nan(self, data):
        assert math.isnan(evaluate(make_runtime(), data).box.ap_large)

    def test_limit_counts_only_the_images_shown(self, data):
        progress = []
        evaluation = evaluate(make_runtime(), data, limit=2, progress=lambda *step: progress.append(step))
        assert evaluation.image_ids == (11, 12)
        assert evaluation.box.ap == pytest.approx(1.0)
        assert progress == [("images", 1, 2), ("images", 2, 2)]

    def test_latency_has_every_stage_and_the_sum(self, data):
        assert set(evaluate(make_runtime(), data).latency) == {"preprocess", "inference", "postprocess", "total"}

    def test_summary_takes_plain_json(self, folder, data):
        record = json.loads((folder / "annotations" / "instances_val.json").read_text())
        for number, annotation in enumerate(record["annotations"], start=1):
            annotation["id"] = number
        results = json.loads(json.dumps([r for rs in evaluate(make_runtime(), data).results.values() for r in rs]))
        assert coco_summary(record, results, "bbox").ap == pytest.approx(1.0)
        assert coco_summary(record, [], "segm").ap == 0.0

    def test_mask_size_is_the_masks_own(self):
        mask = np.zeros((200, 200), np.uint8, order="F")
        mask[:30, :30] = 1
        square = rle.encode(mask)
        truth = {
            "images": [{"id": 1, "width": 200, "height": 200}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 30, 30], "area": 900, "iscrowd": 0,
                 "segmentation": square}
            ],
            "categories": [{"id": 1, "name": "x"}],
        }  # fmt: skip
        wide_box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 150, 150], "score": 0.9, "segmentation": square}
        assert coco_summary(truth, [wide_box], "segm").ap_small == pytest.approx(1.0)

    def test_own_arithmetic_of_the_bootstrap_is_cocos(self, data):
        for runtime in (make_runtime(), make_runtime(shift=4), make_runtime(keep=1), make_runtime(keep=0)):
            result = evaluate(runtime, data).box_result
            assert result.weighted(np.ones((1, 4), int)) == pytest.approx(result.summary.ap)

    def test_an_image_counted_twice_is_two_images(self, data):
        runtime = make_runtime(shift=4, keep=2)
        twice = CocoData(data.path, (*data.images, *_renumbered(data.images)), data.categories, {
            **data.by_image, **{i + 100: [{**a, "image_id": i + 100} for a in v] for i, v in data.by_image.items()}
        })  # fmt: skip
        once, doubled = evaluate(runtime, data).box_result, evaluate(runtime, twice).box_result
        assert once.weighted(np.full((1, 4), 2)) == pytest.approx(doubled.summary.ap)

    def test_drop_interval_of_a_model_with_itself_is_zero(self, data):
        result = evaluate(make_runtime(shift=4), data).box_result
        assert drop_interval(result, result) == (0.0, 0.0)

    def test_drop_interval_holds_the_drop(self, data):
        good, bad = (evaluate(make_runtime(shift=shift), data).box_result for shift in (0, 4))
        low, high = drop_interval(good, bad)
        assert low <= good.summary.ap - bad.summary.ap <= high

    def test_drop_interval_refuses_other_images(self, data):
        few, all_ = (evaluate(make_runtime(), data, limit=limit).box_result for limit in (2, None))
        with pytest.raises(ValueError, match="same images"):
            drop_interval(few, all_)

    def test_ground_truth_is_left_unchanged(self, data):
        before = {i: [dict(a) for a in data.annotations(i)] for i in OBJECTS}
        evaluate(make_runtime(), data)
        assert before == {i: data.annotations(i) for i in OBJECTS}


class TestCategories:
    def test_equal_names_match_across_ids(self, data):
        evaluation = evaluate(make_runtime(classes=("Dog", "cat"), ids=(1, 2)), data, limit=2)
        assert evaluation.categories == CATEGORIES
        assert {r["category_id"] for rs in evaluation.results.values() for r in rs} <= set(CATEGORIES)

    def test_equal_ids_of_other_things_do_not_match(self):
        card = make_card(classes=("balloon", "dog"), ids=(3, 1))
        assert match_categories(card, CATEGORIES) == {1: 9}

    def test_classes_the_data_lacks_are_left_out(self, data):
        evaluation = evaluate(make_runtime(classes=("cat", "horse"), ids=(3, 4)), data)
        assert evaluation.categories == {3: "cat"}
        assert evaluation.box.ap == pytest.approx(1.0)

    def test_no_common_class_names_both_lists(self, data):
        with pytest.raises(DataError, match=r"(?s)\{horse, cow\}.*\{cat, dog\}"):
            evaluate(make_runtime(classes=("horse", "cow"), ids=(3, 9)), data)

    def test_image_of_another_size_is_refused(self, folder, data, tmp_path):
        record = json.loads((folder / "annotations" / "instances_val.json").read_text())
        record["images"][0]["width"] = 200
        (tmp_path / "annotations").mkdir()
        (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(record))
        (tmp_path / "images").symlink_to(folder / "images")
        with pytest.raises(DataError, match="200 x 64, the file has 96 x 64"):
            evaluate(make_runtime(), load(tmp_path))


class TestAgreement:
    def test_same_detections_agree_fully(self, data):
        results = evaluate(make_runtime(), data).results
        agreement = compare(results, results, OBJECTS)
        assert (agreement.objects, agreement.found, agreement.mask_iou) == (6, 1.0, 1.0)
        assert agreement.score_shift == 0.0
        assert set(agreement.change.values()) == {0.0}

    def test_lost_objects_are_counted(self, data):
        reference, candidate = (evaluate(make_runtime(keep=keep), data).results for keep in (8, 1))
        agreement = compare(reference, candidate, OBJECTS)
        assert agreement.found == pytest.approx(3 / 6)
        assert agreement.change[12] == agreement.change[13] == 0.0
        assert agreement.change[14] == pytest.approx(1 - 2 / 4)

    def test_nothing_to_find_is_nan_not_an_error(self):
        assert math.isnan(compare(ImageResults(), ImageResults(), [1]).found)
        assert image_change([], []) == 0.0

    def test_another_class_is_another_object(self):
        box = {"bbox": [0.0, 0.0, 10.0, 10.0], "category_id": 1}
        assert match([box], [box]) == [(0, 0)]
        assert match([box], [{**box, "category_id": 2}]) == []


def _renumbered(images: tuple[CocoImage, ...]) -> tuple[CocoImage, ...]:
    return tuple(dataclasses.replace(image, id=image.id + 100) for image in images)


@pytest.mark.parametrize("corner", [(8, 30), (90, 60)], ids=["covering", "beside"])
def test_label_that_would_cover_a_better_one_is_left_out(corner: tuple[int, int]):
    mask = np.zeros((100, 160), np.uint8)
    mask[50:90, 10:60] = 1
    segmentation = rle.encode(np.asfortranarray(mask))
    things = [{"bbox": [x, y, 50, 40], "segmentation": segmentation} for x, y in ((10, 32), corner)]
    both, one = (
        draw_objects(np.zeros((100, 160, 3), np.uint8), things, [(255, 0, 0), (0, 255, 0)], 1.0, ["first", second])
        for second in ("second", "")
    )
    assert np.array_equal(both, one) == (corner == (8, 30))


def test_measure_ap_of_a_class_nobody_shows_is_nan(data):
    truth = {"images": [{"id": 1, "width": 9, "height": 9}], "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    assert math.isnan(measure_ap(truth, [], "bbox").summary.ap)
