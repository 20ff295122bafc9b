"""Calibration pictures are picked evenly from a data set; recorded ones differ from each other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from quantize.calibration import CalibrationSet, write_manifest
from quantize.picking import LIGHTS, CalibrationCandidate, light_of, pick, read_gray
from quantize.recording import Recorder
from runtimes.errors import ImageError
from runtimes.sources import Frame


def make_candidates(counts: dict[str, int]) -> list[CalibrationCandidate]:
    """So many pictures of each kind, each with that facet and one that all share."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    return [
        CalibrationCandidate(Path(f"{number}.png"), frozenset({kind, "picture"}), "generated")
        for number, kind in enumerate(kinds)
    ]


def test_rare_kinds_are_taken_as_often_as_common_ones() -> None:
    chosen = pick(make_candidates({"cat": 90, "dog": 10, "owl": 5}), 15)
    assert Counter(min(candidate.facets - {"picture"}) for candidate, _ in chosen) == {"cat": 5, "dog": 5, "owl": 5}


def test_choice_depends_on_the_seed_alone() -> None:
    candidates = make_candidates({"cat": 30, "dog": 30})
    first, again, other = (pick(candidates, 8, seed) for seed in (1, 1, 2))
    assert first == again and first != other


def test_no_picture_is_taken_twice_and_all_if_there_are_fewer() -> None:
    chosen = pick(make_candidates({"cat": 3, "dog": 1}), 10)
    assert len({candidate.file for candidate, _ in chosen}) == len(chosen) == 4


def test_reason_names_what_the_set_lacked_first() -> None:
    chosen = pick(make_candidates({"cat": 2, "dog": 1}), 3)
    assert all(reason.endswith("picture") for _, reason in chosen[1:])


@pytest.mark.parametrize(("level", "light"), [*zip((0, 64, 191, 255), LIGHTS, strict=True)])
def test_light_goes_by_mean_brightness(level: int, light: str) -> None:
    assert light_of(np.full((4, 4), level, np.uint8)) == light


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"a\.jpg"):
        read_gray(tmp_path / "a.jpg")


def make_frame(level: int, time_s: float) -> Frame:
    return Frame(np.full((48, 64, 3), level, np.uint8), int(time_s), time_s, "camera")


def test_recorder_keeps_what_is_due_and_new(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "camera", licence="own", every_s=2.0, novelty=0.1)
    offered = [(50, 0.0), (200, 1.0), (52, 2.0), (120, 2.5), (200, 4.0), (200, 5.0)]
    assert [recorder.offer(make_frame(*each)) for each in offered] == [True, False, False, True, False, True]
    assert recorder.refused == 1
    assert len(CalibrationSet.load(write_manifest(tmp_path, recorder.entries))) == 3
    assert recorder.entries[0].why == "dark, the first"
