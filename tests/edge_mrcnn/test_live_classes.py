"""--classes and --exclude: spellings of class names."""

import json

import pytest
from live_site import CARD, Moving, detect_three

from edge_mrcnn.live.classes import choose_labels, find_classes
from edge_mrcnn.live.loop import run_loop
from edge_mrcnn.live.session import Session
from edge_mrcnn.live.settings import make_settings
from runtimes import FakeRuntime, UsageError
from runtimes.stream import Stream

NAMES = ("person", "dog", "cup, small", "7")


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["person,dog"], {0, 1}), (["person", " dog "], {0, 1}), (["cup, small"], {2}), (["1"], {1}), (["7"], {3}),
        ([""], set()), ([], set()),
    ],
)  # fmt: skip
def test_names_lists_and_labels(texts, labels):
    assert find_classes("--classes", texts, NAMES) == labels


def test_unknown_class_is_named_with_its_option_and_the_nearest():
    with pytest.raises(UsageError, match=r"--classes: class 'persn': the model has .*; did you mean person\?"):
        choose_labels(["persn"], [], NAMES)


def test_what_is_excluded_is_out_even_if_it_is_named():
    assert choose_labels([], ["dog"], NAMES).tolist() == [True, False, True, True]
    assert choose_labels(["person,dog"], ["dog"], NAMES).tolist() == [True, False, False, False]
    with pytest.raises(UsageError, match="no class is left"):
        choose_labels(["dog"], ["dog"], NAMES)


@pytest.mark.parametrize("options", [{"classes": "bottle"}, {"exclude": ["cup"]}])
def test_records_and_the_caller_get_the_chosen_classes_alone(tmp_path, options):
    stream = Stream(FakeRuntime(CARD, detect_three), Moving("door"))
    settings = make_settings(json=tmp_path / "log.jsonl", pixel_size=0.5, **options)
    with Session(settings, CARD, stream) as live:
        for _, found in run_loop(iter(stream), live, limit=2):
            assert found.class_names == ["bottle"]
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    (bottle,) = record["detections"]
    assert bottle["category_name"] == "bottle" and bottle["area_mm2"] == pytest.approx(bottle["area"] / 4, rel=1e-3)
