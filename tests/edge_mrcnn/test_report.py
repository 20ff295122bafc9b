"""Comparison and rendering on painted scenes: every rectangle of one colour is one object."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from painted import HEIGHT, OBJECTS, WIDTH, make_runtime, write_painted

from edge_mrcnn.data import load
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.evaluation.drop import Drop
from edge_mrcnn.measure.files import file_sha256, file_size, unique_names
from edge_mrcnn.measure.latency import measure_latency
from edge_mrcnn.report import charts, drawing
from edge_mrcnn.report.comparison import CompareConfig, Measured, compare_models
from edge_mrcnn.report.markdown import to_markdown
from edge_mrcnn.report.models import Model
from edge_mrcnn.report.pictures import choose, draw_lost, draw_strips, find_lost, number_objects
from edge_mrcnn.report.render import draw_charts, to_html, to_json, to_plots
from edge_mrcnn.report.variants import group_variants
from edge_mrcnn.report.wording import interval_lines, say_precision, verdict
from runtimes import DataError, FakeRuntime


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("painted")
    write_painted(root)
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
        assert verdict(comparison) == "No drop in 1 model: shifted.tflite gained least, 1.20 AP."

    def test_interval_says_how_many_images_show_half_a_point(self):
        drop = Drop(value=0.002, interval=(-0.008, 0.012))
        assert drop.half_width == pytest.approx(0.01)
        assert drop.images_to_see(100) == 400  # half the width takes four times the images
        assert drop.images_to_see(100, change=0.02) == 25
        assert Drop(value=0.0, interval=(0.0, 0.0)).images_to_see(100) == 1
        assert Drop(value=math.nan, interval=(math.nan, math.nan)).images_to_see(100) is None

    def test_widest_interval_of_all_models_is_told(self, measured):
        reference, same, shifted = measured.comparison.rows
        label = measured.comparison.data_sets[0].label
        wide, narrow = Drop(value=0.1, interval=(0.09, 0.11)), Drop(value=0.1, interval=(0.097, 0.103))
        said = {}
        for name, mask_drop in (("wide", wide), ("narrow", narrow)):
            score = dataclasses.replace(shifted.score, box_drop=narrow, mask_drop=mask_drop)
            row = dataclasses.replace(shifted, scores={label: score})
            comparison = dataclasses.replace(measured.comparison, rows=(reference, same, row))
            said[name] = say_precision(comparison, label)
        images = measured.comparison.data_sets[0].images
        assert said["wide"].endswith(
            f"±1.00 AP (shifted.tflite, mask). To show a change of half a point takes about {4 * images} images like "
            f"these {images}: {3 * images} more."
        )
        assert said["narrow"].endswith(
            f"±0.30 AP (shifted.tflite, box): these {images} images show a change of half a point."
        )
        lines = interval_lines(comparison)
        assert lines[-1] == "shifted.tflite: 95 % of Δ box −10.30 … −9.70, of Δ mask −10.30 … −9.70"

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
        with pytest.raises(DataError, match="do not have the same classes; only one has dog"):
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
        assert "1 of 2 models dropped by more than 1 AP: shifted.tflite." in plain
        assert "The widest 95 % interval of a change is ±" in plain

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
        for word in ("classification", "mask quality", "missed"):
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
        assert "Compression steps" in to_markdown(comparison)

    def test_pruned_models_stand_apart_over_their_multiply_accumulates(self, measured):
        base, pruned, unknown = measured.comparison.rows
        base = dataclasses.replace(base, macs=8_000_000_000)
        card = {**pruned.card, "training": {"pruned": {"ratio": None}}}
        pruned = dataclasses.replace(pruned, macs=5_000_000_000, card=card)
        comparison = dataclasses.replace(measured.comparison, rows=(base, pruned, unknown))
        chart = draw_charts(comparison)["macs"]
        assert "GMAC of one image" in chart and chart.count('class="dot') == 2
        assert chart.count(" pruned") == 1 and "a dark rim marks pruned models" in to_html(comparison)
        assert "macs" not in draw_charts(measured.comparison)

    def test_markdown_has_one_line_per_model(self, measured):
        text = to_markdown(measured.comparison)
        assert len(re.findall(r"^\| shifted\.tflite +\| tflite", text, re.M)) == 1
        for title in (
            "Compression steps",
            "Mask AP lost to each error type",
            "Objects lost and gained",
            "Provenance",
        ):
            assert f"## {title}" in text
        assert "## again: 4 images, 6 objects, 2 classes" in text
        assert text.count("The widest 95 % interval of a change is ±") == len(measured.comparison.data_sets)

    def test_json_holds_raw_numbers_and_no_nan(self, measured):
        record = json.loads(to_json(measured.comparison), parse_constant=pytest.fail)
        row = record["rows"][2]
        assert row["scores"]["painted"]["box"]["ap"] == pytest.approx(measured.comparison.rows[2].score.box.ap)
        assert row["scores"]["painted"]["box"]["ap_large"] is None
        drop, images = measured.comparison.rows[2].score.box_drop, measured.comparison.data_sets[0].images
        found = row["scores"]["painted"]["box_drop"]
        assert found["half_width"] == drop.half_width
        assert found["images_for_half_a_point"] == drop.images_to_see(images)
        assert record["too_lossy"] == ["shifted.tflite"]

    def test_a_reference_alone_renders(self, measured):
        alone = dataclasses.replace(measured.comparison, rows=measured.comparison.rows[:1])
        assert "nothing to compare" in to_html(alone)
        assert "nothing to compare" in to_markdown(alone)

    def test_most_changed_images_come_first(self):
        change = {1: 0.1, 2: 0.9, 3: 0.0, 4: 0.5, 5: 0.3}
        assert choose(change, changed=2, typical=1) == [2, 4, 1]
        assert choose(change, changed=3, typical=9) == [2, 4, 5, 1, 3]


def test_an_object_keeps_its_number_across_panels():
    def thing(x: int) -> dict:
        return {"bbox": [x, 0, 10, 10], "category_id": 1}

    known: list[dict] = []
    assert number_objects(known, [thing(0), thing(50)]) == [0, 1]
    assert number_objects(known, [thing(51), thing(90)]) == [1, 2]
    assert number_objects(known, [thing(91), thing(1), thing(150)]) == [2, 0, 3]


def test_lost_objects_are_framed():
    things = [{"bbox": [x, 5, 20, 20], "category_id": 1} for x in (5, 50)]
    lost = find_lost(things, things[:1])
    assert lost == things[1:]
    canvas = draw_lost(np.zeros((40, 80, 3), np.uint8), lost, 1.0)
    assert canvas[3:28, 48:73].any()
    assert not canvas[8:22, 53:67].any()
    assert not canvas[:, :45].any()
