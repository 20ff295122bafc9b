"""Our AP equals pycocotools' on difficult scenes; breakdown of each type of error."""

from __future__ import annotations

import contextlib
import copy
import io
import math
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edge_mrcnn.evaluation.breakdown import KINDS, ErrorCost, ErrorMeter
from edge_mrcnn.evaluation.image_results import ImageResults
from edge_mrcnn.evaluation.matching import IouType, match_image
from edge_mrcnn.evaluation.metrics import RECALLS, average_precision, measure_ap
from edge_mrcnn.evaluation.pairing import SightingMeter, Sightings, pair

SIDE = 240
CLASSES = (2, 5, 9)


def shape(box: tuple[float, float, float, float]) -> dict[str, Any]:
    """A rectangle x y w h as COCO's box, mask and area."""
    x, y, w, h = (round(v) for v in box)
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    coded = rle.encode(mask)
    return {"bbox": [x, y, w, h], "segmentation": {**coded, "counts": coded["counts"].decode()}, "area": float(w * h)}


def truth(number: int, image: int, category: int, box: tuple, crowd: bool = False) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": int(crowd), **shape(box)}


def result(image: int, category: int, score: float, box: tuple) -> dict[str, Any]:
    found = shape(box)
    return {"image_id": image, "category_id": category, "score": score,
            "bbox": found["bbox"], "segmentation": found["segmentation"]}  # fmt: skip


def make_awkward(seed: int, images: int = 6) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crowds, equal scores, objects of all sizes, more than 100 detections, images and classes without either."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(images, 0, -1):
        for _ in range(rng.integers(0, 7) if image > 1 else 0):
            w, h = rng.choice([8, 20, 50, 120], 2)
            box = (*rng.integers(0, SIDE - 120, 2), w, h)
            category = int(rng.choice(CLASSES[:2]))
            annotations.append(truth(len(annotations) + 1, image, category, box, crowd=rng.random() < 0.2))
        for _ in range(130 if image == 2 else rng.integers(0, 12)):
            own = [a for a in annotations if a["image_id"] == image]
            if own and rng.random() < 0.8:
                near = own[rng.integers(len(own))]["bbox"]
                box = tuple(np.maximum(np.array(near) + rng.integers(-6, 7, 4), 1))
            else:
                box = (*rng.integers(0, SIDE - 60, 2), *rng.integers(5, 60, 2))
            results.append(result(image, int(rng.choice(CLASSES)), float(rng.integers(1, 9)) / 10, box))
    record = {
        "images": [{"id": i, "width": SIDE, "height": SIDE} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": c, "name": str(c)} for c in CLASSES],
    }
    return record, results


def ask_coco(record: dict[str, Any], results: list[dict[str, Any]], iou_type: IouType) -> COCOeval:
    other = "bbox" if iou_type == "segm" else "segmentation"  # with both, loadRes takes the box's area for a mask
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(record)
        coco.createIndex()
        found = coco.loadRes([{k: v for k, v in r.items() if k != other} for r in copy.deepcopy(results)])
        evaluation = COCOeval(coco, found, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


class TestAveragePrecision:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("iou_type", ["bbox", "segm"])
    def test_all_numbers_are_pycocotools_own(self, seed, iou_type):
        record, results = make_awkward(seed)
        ours, theirs = measure_ap(record, results, iou_type), ask_coco(record, results, iou_type)
        expected = [math.nan if value < 0 else value for value in theirs.stats]
        assert list(ours.summary.by_name().values()) == pytest.approx(expected, abs=1e-12, nan_ok=True)
        precision = theirs.eval["precision"][..., 0, -1]
        per_class = [math.nan if (p := precision[:, :, k]).max() < 0 else p.mean() for k in range(len(CLASSES))]
        assert list(ours.per_class.values()) == pytest.approx(per_class, abs=1e-12, nan_ok=True)

    def test_polygons_and_plain_runs_are_compressed(self):
        record, results = make_awkward(0)
        plain = copy.deepcopy(record)
        for annotation in plain["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        assert measure_ap(plain, results, "segm").summary == measure_ap(record, results, "segm").summary

    def test_recall_is_read_where_its_share_is_reached(self):
        for objects in range(2, 300):
            found = objects // 2
            hits = np.arange(objects)[None] < found
            share = np.minimum(np.arange(1, objects + 1), found) / objects
            reached = np.searchsorted(share, RECALLS, side="left") < objects
            assert average_precision(hits, np.zeros_like(hits), objects)[0] == pytest.approx(reached.mean())

    def test_many_rows_are_as_one_by_one(self):
        rng = np.random.default_rng(3)
        hits = rng.integers(0, 4, (7, 50)) * (rng.random(50) < 0.5)
        misses = rng.integers(0, 4, (7, 50)) * (hits == 0)
        hits[0] = 0
        objects = hits.sum(axis=1) * np.array([1, 1, 2, 3, 4, 5, 1])
        single = [average_precision(hits[i : i + 1], misses[i : i + 1], objects[i])[0] for i in range(7)]
        assert average_precision(hits, misses, objects) == pytest.approx(single, nan_ok=True)

    def test_detections_are_sorted_by_score(self):
        results = ImageResults()
        found = [result(1, 2, score, (0, 0, 9, 9)) for score in (0.25, 0.75)]
        results.add(1, found)
        assert results[1] == found[::-1]
        assert results[2] == []
        assert list(results) == [1]
        assert 2 not in results


OBJECT, FAR = (60, 60, 80, 80), (180, 180, 40, 40)


def cost_of(results: list[dict[str, Any]], truths: list[dict[str, Any]]) -> dict[str, ErrorCost]:
    """Costs of mask errors, over one image."""
    meter = ErrorMeter(CLASSES)
    meter.add(1, match_image(results, truths, "segm"), match_image(results, truths, "bbox").ious)
    return meter.costs()


class TestBreakdown:
    truths = [truth(1, 1, 2, OBJECT), truth(2, 1, 5, FAR)]
    perfect = [result(1, 2, 0.9, OBJECT), result(1, 5, 0.8, FAR)]

    def test_perfect_detections_have_no_errors(self):
        costs = cost_of(self.perfect, self.truths)
        assert tuple(costs) == KINDS
        assert all(cost == ErrorCost(ap=0.0, ap50=0.0, count=0) for cost in costs.values())

    @pytest.mark.parametrize(
        ("kind", "wrong"),
        [
            ("class", result(1, 9, 0.9, OBJECT)),
            ("place", result(1, 2, 0.9, (110, 60, 80, 80))),
            ("both", result(1, 9, 0.9, (110, 60, 80, 80))),
        ],
    )
    def test_error_that_hides_an_object_costs_its_class(self, kind, wrong):
        costs = cost_of([wrong, self.perfect[1]], self.truths)
        assert costs[kind].count == 1
        missed = 1 if kind == "both" else 0  # nothing can be put right there
        assert costs["missed"].count == missed
        assert sum(cost.count for cost in costs.values()) == 1 + missed
        if not missed:
            assert costs[kind].ap50 == pytest.approx(0.5)  # one of two classes

    def test_poor_mask_in_a_good_box_is_a_mask_quality_error(self):
        thin = {**result(1, 2, 0.9, OBJECT), "segmentation": shape((60, 60, 80, 20))["segmentation"]}
        costs = cost_of([thin, self.perfect[1]], self.truths)
        assert costs["mask"] == ErrorCost(ap=pytest.approx(0.5), ap50=pytest.approx(0.5), count=1)
        assert costs["place"].count == 0

    def test_duplicates_and_background_errors_lower_precision(self):
        extra = [result(1, 2, 0.95, (0, 0, 30, 30)), result(1, 2, 0.85, OBJECT)]
        costs = cost_of([*self.perfect, *extra], self.truths)
        assert (costs["background"].count, costs["twice"].count) == (1, 1)
        assert costs["background"].ap50 == pytest.approx(0.25)  # precision 1/2 becomes 1 in one of two classes
        assert costs["twice"].ap50 == 0.0  # it comes after all objects are found

    def test_a_missed_object_is_missed_at_every_threshold(self):
        costs = cost_of(self.perfect[:1], self.truths)
        assert costs["missed"].count == 1
        assert costs["missed"].ap == pytest.approx(0.5)

    def test_crowds_are_not_errors(self):
        crowd = truth(3, 1, 2, (0, 0, 50, 50), crowd=True)
        costs = cost_of([*self.perfect, result(1, 2, 0.99, (5, 5, 20, 20))], [*self.truths, crowd])
        assert not any(cost.count for cost in costs.values())

    def test_images_without_objects_or_detections_count(self):
        meter = ErrorMeter(CLASSES)
        meter.add(1, match_image([result(1, 2, 0.9, FAR)], [], "bbox"))
        meter.add(2, match_image([], self.truths, "bbox"))
        costs = meter.costs()
        assert (costs["background"].count, costs["missed"].count) == (1, 2)
        assert ErrorMeter(CLASSES).costs() == {}


def see(results: list[dict[str, Any]], truths: list[dict[str, Any]]) -> Sightings:
    meter = SightingMeter()
    meter.add(1, match_image(results, truths, "bbox"), match_image(results, truths, "segm").ious)
    return meter.result()


class TestPairing:
    truths = [truth(1, 1, 2, OBJECT), truth(2, 1, 5, FAR), truth(3, 1, 5, (0, 0, 20, 20))]
    names = {2: "cat", 5: "dog", 9: "cow"}

    def test_lost_gained_and_kept_are_told_apart(self):
        reference = see([result(1, 2, 0.95, OBJECT), result(1, 5, 0.6, FAR)], self.truths)
        candidate = see([result(1, 2, 0.85, (60, 60, 80, 70)), result(1, 5, 0.7, (0, 0, 20, 20))], self.truths)
        pairing = pair(reference, candidate, self.names)
        assert (pairing.total.objects, pairing.total.found, pairing.total.lost, pairing.total.gained) == (3, 2, 1, 1)
        assert pairing.total.score == pytest.approx(-0.1)
        assert pairing.total.box_iou == pairing.total.mask_iou == pytest.approx(-1 / 8)
        assert list(pairing.by_class) == ["cat", "dog"]
        assert (pairing.by_class["dog"].lost, pairing.by_class["dog"].gained) == (1, 1)
        assert (pairing.by_size["medium"].lost, pairing.by_size["small"].gained) == (1, 1)
        assert [change.lost for change in pairing.by_score.values()] == [1, 0, 0]

    def test_object_below_the_score_threshold_is_not_shown(self):
        shown = see([result(1, 2, 0.5, OBJECT), result(1, 2, 0.4, FAR)], self.truths)
        assert not shown.found.any()
        assert shown.extra_scores.size == 0

    def test_extra_detections_are_a_difference(self):
        extra = [result(1, 2, 0.9, (150, 0, 40, 40)), result(1, 5, 0.6, (100, 0, 40, 40))]
        pairing = pair(see(extra[:1], self.truths), see(extra, self.truths), self.names)
        assert pairing.total.extra == 1
        assert pairing.by_class["cat"].extra == 0
        assert [change.extra for change in pairing.by_score.values()] == [1, 0, 0]
        assert math.isnan(pairing.total.score)
