"""Metrics, comparison and rendering on painted scenes: every rectangle of one colour is one object."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from edge_mrcnn.data import load
from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.evaluation.agreement import compare, image_change, match
from edge_mrcnn.evaluation.answers import Answers
from edge_mrcnn.evaluation.evaluate import evaluate, match_categories
from edge_mrcnn.evaluation.metrics import coco_summary, drop_interval, measure_ap
from edge_mrcnn.evaluation.overlay import draw_objects
from edge_mrcnn.measure.files import file_sha256, file_size, unique_names
from edge_mrcnn.measure.latency import measure_latency
from edge_mrcnn.report import charts, drawing
from edge_mrcnn.report.comparison import CompareConfig, Measured, compare_models
from edge_mrcnn.report.markdown import to_markdown
from edge_mrcnn.report.models import Model
from edge_mrcnn.report.pictures import choose, draw_lost, draw_strips, find_lost, number_objects
from edge_mrcnn.report.render import draw_charts, to_html, to_json, to_plots
from edge_mrcnn.report.variants import group_variants
from edge_mrcnn.report.wording import verdict
from runtimes import DataError, FakeRuntime, ModelCard, RawOutputs
from runtimes.model_card import ModelCard as Card

HEIGHT, WIDTH, SIDE = 64, 96, 14
CATEGORIES = {3: "cat", 9: "dog"}
OBJECTS = {  # image id -> (category id, x, y, w, h) of each object
    11: [(3, 4, 4, 40, 40), (9, 50, 10, 40, 40)],
    12: [(3, 10, 8, 50, 50)],
    13: [],
    14: [(9, 2, 2, 44, 50), (9, 50, 4, 40, 44), (3, 60, 52, 10, 10)],
}


def make_card(classes: tuple[str, ...] = ("cat", "dog"), ids: tuple[int, ...] = (3, 9), **changes: object) -> Card:
    settings = dict(
        name="painted", classes=classes, category_ids=ids, input_size_hw=(HEIGHT, WIDTH), pad_rgb=(0, 0, 0),
        proposals=8, max_detections=8, mask_size=SIDE, mask_offset=0.0, score_threshold=0.05,
        iou_threshold=0.5, target="onnx",
    )  # fmt: skip
    return ModelCard(**{**settings, **changes})


def find_painted(x: np.ndarray, shift: float = 0.0, keep: int = 8) -> RawOutputs:
    """A perfect detector of rectangles: the colour's red value says the class; `shift` moves each box to the right."""
    image = x[0]
    colours = [c for c in np.unique(image.reshape(-1, 3), axis=0) if c.any()][:keep]
    places = [np.nonzero((image == colour).all(axis=2)) for colour in colours]
    boxes = [(c.min() + shift, r.min(), c.max() + 1 + shift, r.max() + 1) for r, c in places]
    count = len(colours)
    return RawOutputs(
        np.array(boxes, np.float32).reshape(count, 4),
        np.linspace(0.95, 0.8, count, dtype=np.float32) - 1e-3 * image.mean(),  # no two images tie
        np.array([int(colour[0] == 200) for colour in colours], np.int64),
        np.ones((count, SIDE, SIDE), np.float32),
    )


def make_runtime(shift: float = 0.0, keep: int = 8, **card: object) -> FakeRuntime:
    return FakeRuntime(make_card(**card), lambda x: find_painted(x, shift, keep))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("painted")
    (root / "images" / "val").mkdir(parents=True)
    (root / "annotations").mkdir()
    annotations = []
    for image_id, objects in OBJECTS.items():
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for number, (category, x, y, w, h) in enumerate(objects):
            image[y : y + h, x : x + w] = (200 if category == 9 else 100, 50 + 20 * number, 30)
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                {"id": len(annotations), "image_id": image_id, "category_id": category, "segmentation": [polygon],
                 "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            )  # fmt: skip
        cv2.imwrite(str(root / "images" / "val" / f"{image_id}.png"), image[..., ::-1])
    record = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in OBJECTS],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in CATEGORIES.items()],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(record))
    return root


@pytest.fixture(scope="module")
def data(folder: Path) -> CocoData:
    return load(folder)


@pytest.fixture(scope="module")
def measured(data: CocoData, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    root = tmp_path_factory.mktemp("models")
    runtimes = {
        "best.onnx": make_runtime(target="torch"),
        "same.onnx": make_runtime(),
        "shifted.tflite": make_runtime(shift=4, target="tflite", precision="int8"),
    }
    for size, name in enumerate(runtimes, start=1):
        (root / name).write_bytes(bytes(1000 * size))
    models = [Model(root / name, runtime, runs_as={"threads": "1"}) for name, runtime in runtimes.items()]
    config = CompareConfig(title="Cats & <dogs>", max_drop=0.01, timed_images=2, timed_rounds=2, measures_memory=False)
    return compare_models(models, {"painted": data, "again": data}, config)


@pytest.fixture(scope="module")
def page(measured: Measured, data: CocoData) -> str:
    names = [row.name for row in measured.comparison.rows]
    strips = draw_strips("painted", data, dict(zip(names, measured.evaluations["painted"], strict=True)))
    return to_html(measured.comparison, strips)


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
        assert not any(evaluation.answers.values())

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
        results = json.loads(json.dumps([r for rs in evaluate(make_runtime(), data).answers.values() for r in rs]))
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
        assert {r["category_id"] for rs in evaluation.answers.values() for r in rs} <= set(CATEGORIES)

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
    def test_same_answers_agree_fully(self, data):
        results = evaluate(make_runtime(), data).answers
        agreement = compare(results, results, OBJECTS)
        assert (agreement.objects, agreement.found, agreement.mask_iou) == (6, 1.0, 1.0)
        assert agreement.score_shift == 0.0
        assert set(agreement.change.values()) == {0.0}

    def test_lost_objects_are_counted(self, data):
        reference, candidate = (evaluate(make_runtime(keep=keep), data).answers for keep in (8, 1))
        agreement = compare(reference, candidate, OBJECTS)
        assert agreement.found == pytest.approx(3 / 6)
        assert agreement.change[12] == agreement.change[13] == 0.0
        assert agreement.change[14] == pytest.approx(1 - 2 / 4)

    def test_nothing_to_find_is_nan_not_an_error(self):
        assert math.isnan(compare(Answers(), Answers(), [1]).found)
        assert image_change([], []) == 0.0

    def test_another_class_is_another_object(self):
        box = {"bbox": [0.0, 0.0, 10.0, 10.0], "category_id": 1}
        assert match([box], [box]) == [(0, 0)]
        assert match([box], [{**box, "category_id": 2}]) == []


class TestComparison:
    def test_drop_is_reference_minus_candidate(self, measured):
        reference, same, shifted = measured.comparison.rows
        assert same.score.box_drop.value == pytest.approx(0.0)
        assert shifted.score.box_drop.value == pytest.approx(reference.score.box.ap - shifted.score.box.ap)
        assert shifted.score.mask_drop.value > 0.1
        assert reference.score.box_drop is None

    def test_gate_names_the_lossy_model_only(self, measured):
        assert [row.name for row in measured.comparison.too_lossy] == ["shifted.tflite"]

    def test_a_gain_is_not_called_a_loss(self, measured):
        reference, _, shifted = measured.comparison.rows
        gain = dataclasses.replace(shifted.score.box_drop, value=-0.012)
        score = dataclasses.replace(shifted.score, box_drop=gain, mask_drop=gain)
        row = dataclasses.replace(shifted, scores={next(iter(shifted.scores)): score})
        comparison = dataclasses.replace(measured.comparison, rows=(reference, row), max_drop=None)
        assert verdict(comparison) == "No loss among 1 model: shifted.tflite gained least, 1.20 AP."

    def test_rows_say_what_the_files_are(self, measured):
        row = measured.comparison.rows[2]
        assert (row.target, row.precision, row.size_bytes, row.runs_as) == ("tflite", "int8", 3000, {"threads": "1"})

    def test_speed_up_counts_from_the_reference_on_the_same_device(self, measured):
        comparison = measured.comparison
        assert comparison.speed_base is comparison.reference
        assert comparison.speed_up(comparison.reference) == 1.0

    def test_models_of_other_classes_are_refused(self, data, tmp_path):
        (tmp_path / "m").write_bytes(b"m")
        other = make_runtime(classes=("cat",), ids=(3,))
        models = [Model(tmp_path / "m", runtime) for runtime in (make_runtime(), other)]
        with pytest.raises(DataError, match="knows dog: compare models of the same classes"):
            compare_models(models, {"painted": data}, CompareConfig(limit=2, measures_memory=False))

    def test_data_without_objects_are_refused(self, data, tmp_path):
        (tmp_path / "m").write_bytes(b"m")
        empty = CocoData(data.path, data.images, data.categories, {})
        with pytest.raises(DataError, match="nothing to measure"):
            compare_models(
                [Model(tmp_path / "m", make_runtime())], {"empty": empty}, CompareConfig(measures_memory=False)
            )

    def test_names_grow_until_they_differ(self):
        assert unique_names([Path("a/best.pt"), Path("a/model.onnx")]) == ["best.pt", "model.onnx"]
        assert unique_names([Path("a/m.onnx"), Path("b/m.onnx")]) == ["a/m.onnx", "b/m.onnx"]
        assert unique_names([Path("m.onnx"), Path("m.onnx")]) == ["m.onnx (1)", "m.onnx (2)"]

    def test_latency_is_wall_time(self):
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        slow, fast = (FakeRuntime(latency_s=seconds) for seconds in (0.02, 0.0))
        times = measure_latency([slow, fast], [image, image], warm_up=1, rounds=2)
        assert times[0]["total"].p50 >= times[0]["inference"].p50 >= 20.0 > times[1]["total"].p50

    def test_openvino_counts_both_files(self, tmp_path):
        (tmp_path / "m.xml").write_bytes(b"12")
        alone = file_sha256(tmp_path / "m.xml")
        (tmp_path / "m.bin").write_bytes(b"345")
        assert file_size(tmp_path / "m.xml") == 5
        assert file_sha256(tmp_path / "m.xml") != alone


class TestRendering:
    def test_html_says_what_the_rows_say(self, page, measured):
        plain = re.sub(r"\s+", " ", page)
        for row in measured.comparison.rows:
            assert row.name in plain
            assert row.sha256 in plain
            assert f'"strong">{100 * row.score.mask.ap:.1f}</td>' in plain
        lost = measured.comparison.rows[2].score.box_drop.value
        assert f'class="delta bad">−{100 * lost:.2f}<' in plain
        assert "1 of 2 models lost more than 1 AP: shifted.tflite." in plain

    def test_html_is_one_file_without_script(self, page):
        assert "<script" not in page
        assert not re.search(r'(?:src|href)="(?!data:|#)', page)
        assert page.count("data:image/jpeg;base64,") == len(OBJECTS) * 4

    def test_html_escapes_names(self, page):
        assert "<h1>Cats &amp; &lt;dogs&gt;</h1>" in page

    def test_charts_are_well_formed(self, measured):
        import xml.etree.ElementTree as tree

        drawn = draw_charts(measured.comparison)
        assert set(drawn) == {"latency", "size", "stages", "change", "mistakes", "objects"}
        for name, chart in drawn.items():
            root = tree.fromstring(chart)
            assert "shifted.tflite" in "".join(root.itertext()) or name == "mistakes"

    def test_labels_avoid_points_and_each_other(self):
        points = [(100.0, 100.0), (108.0, 104.0), (112.0, 98.0)]
        boxes = drawing.place_labels([60, 60, 60], points, (0, 0, 440, 250))
        overlaps = [drawing.overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
        assert max(overlaps) == 0.0

    def test_labels_keep_off_lines(self):
        (box,) = drawing.place_labels([60], [(100.0, 100.0)], (0, 0, 440, 250), [(0, 92, 440, 108)])
        assert drawing.overlap(box, (0, 92, 440, 108)) == 0.0

    def test_front_is_what_no_other_model_beats(self):
        assert charts.pareto_front([(30, 0.5), (10, 0.3), (20, 0.2), (20, 0.4), (40, 0.5)]) == [1, 3, 0]

    def test_plots_stand_alone(self, measured):
        import xml.etree.ElementTree as tree

        plots = to_plots(measured.comparison)
        assert set(plots) >= {"latency.svg", "change.svg", "mistakes.svg"}
        for plot in plots.values():
            assert tree.fromstring(plot).tag == "{http://www.w3.org/2000/svg}svg"
            assert "--good:" in plot
            assert "@media" not in plot

    def test_page_says_what_was_lost_and_why(self, page, measured):
        total = measured.comparison.rows[2].score.pairing.total
        assert f"<td>{total.found} of {total.objects}</td>" in page
        assert "Objects lost and gained, by class" in page
        for word in ("wrong class", "poor mask", "missed"):
            assert word in page

    def test_variants_stand_side_by_side(self, measured):
        base, pruned = measured.comparison.rows[:2]
        pruned = dataclasses.replace(pruned, macs=5, card={"training": {"pruned": {"ratio": 0.2}}})
        both = dataclasses.replace(pruned, name="both.onnx", precision="int8", macs=None)
        comparison = dataclasses.replace(measured.comparison, rows=(base, pruned, both))
        variants = group_variants(comparison)
        assert [variant.name for variant in variants] == ["base", "pruned", "pruned + INT8"]
        assert [variant.macs for variant in variants] == [None, 5, None]
        assert variants[0].worst_drop is None
        assert variants[1].latency_ms == {"onnx": pruned.latency_ms}
        assert "Step by step" in to_markdown(comparison)

    def test_pruned_models_stand_apart_over_their_multiply_accumulates(self, measured):
        base, pruned, unknown = measured.comparison.rows
        base = dataclasses.replace(base, macs=8_000_000_000)
        card = {**pruned.card, "training": {"pruned": {"ratio": None}}}
        pruned = dataclasses.replace(pruned, macs=5_000_000_000, card=card)
        comparison = dataclasses.replace(measured.comparison, rows=(base, pruned, unknown))
        chart = draw_charts(comparison)["macs"]
        assert "GMAC of one image" in chart and chart.count('class="dot') == 2
        assert chart.count(" pruned") == 1 and "a dark rim is a pruned one" in to_html(comparison)
        assert "macs" not in draw_charts(measured.comparison)

    def test_markdown_has_one_line_per_model(self, measured):
        text = to_markdown(measured.comparison)
        assert len(re.findall(r"^\| shifted\.tflite +\| tflite", text, re.M)) == 1
        for title in (
            "Step by step",
            "Mask AP that each kind of mistake costs",
            "Objects lost and gained",
            "Provenance",
        ):
            assert f"## {title}" in text
        assert "## again: 4 images, 6 objects, 2 classes" in text

    def test_json_holds_raw_numbers_and_no_nan(self, measured):
        record = json.loads(to_json(measured.comparison), parse_constant=pytest.fail)
        row = record["rows"][2]
        assert row["scores"]["painted"]["box"]["ap"] == pytest.approx(measured.comparison.rows[2].score.box.ap)
        assert row["scores"]["painted"]["box"]["ap_large"] is None
        assert record["too_lossy"] == ["shifted.tflite"]

    def test_a_reference_alone_renders(self, measured):
        alone = dataclasses.replace(measured.comparison, rows=measured.comparison.rows[:1])
        assert "nothing to compare" in to_html(alone)
        assert "nothing to compare" in to_markdown(alone)

    def test_most_changed_images_come_first(self):
        change = {1: 0.1, 2: 0.9, 3: 0.0, 4: 0.5, 5: 0.3}
        assert choose(change, changed=2, typical=1) == [2, 4, 1]
        assert choose(change, changed=3, typical=9) == [2, 4, 5, 1, 3]


def _renumbered(images: tuple[CocoImage, ...]) -> tuple[CocoImage, ...]:
    return tuple(dataclasses.replace(image, id=image.id + 100) for image in images)


def test_an_object_keeps_its_number_across_panels():
    def thing(x: int) -> dict:
        return {"bbox": [x, 0, 10, 10], "category_id": 1}

    known: list[dict] = []
    assert number_objects(known, [thing(0), thing(50)]) == [0, 1]
    assert number_objects(known, [thing(51), thing(90)]) == [1, 2]
    assert number_objects(known, [thing(91), thing(1), thing(150)]) == [2, 0, 3]


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


def test_lost_objects_are_framed():
    things = [{"bbox": [x, 5, 20, 20], "category_id": 1} for x in (5, 50)]
    lost = find_lost(things, things[:1])
    assert lost == things[1:]
    canvas = draw_lost(np.zeros((40, 80, 3), np.uint8), lost, 1.0)
    assert canvas[3:28, 48:73].any()
    assert not canvas[8:22, 53:67].any()
    assert not canvas[:, :45].any()


def test_measure_ap_of_a_class_nobody_shows_is_nan(data):
    truth = {"images": [{"id": 1, "width": 9, "height": 9}], "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    assert math.isnan(measure_ap(truth, [], "bbox").summary.ap)
