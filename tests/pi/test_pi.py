"""The packages of each extra work on an emulated Raspberry Pi, with the outputs of this machine."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

import runtimes
from edge_mrcnn.cli import COMMANDS
from runtimes.base import RawOutputs
from runtimes.parity import Parity, Tolerance, compare_outputs

KINDS = ("", "-int8")
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite"}

FP32 = 1e-5
"""Difference that the order of float additions makes, relative to the size of the input or to 1."""
SAME = Tolerance(box_px=FP32 * 128, score=FP32, mask=FP32)
LIMITS = {
    "": (SAME,),
    "-int8": (replace(SAME, quantile=0.5), Tolerance(box_px=0.5, score=0.05, mask=0.1, matched=0.8, surplus=0.2)),
}
"""Kind of file -> required agreement. In INT8 most outputs are equal. Sometimes a float lies so close to the border of
two integers that it is rounded differently, which changes the values that depend on it a little."""
OPENVINO_INT8 = (Tolerance(box_px=1, score=0.05, mask=0.05, matched=0.8, surplus=0.2, quantile=0.5),)
"""OpenVINO rounds otherwise on Arm, or computes INT8 layers in float there."""


def test_wheels_import(there):
    assert there.record["machine"] == "aarch64"
    assert {name: version for name, version in there.record["modules"].items() if "error" in version} == {}


def test_nothing_needs_torch(there):
    assert not there.record["torch"]


def test_help_lists_every_verb(there):
    result = there.command("--help")
    assert result["code"] == 0
    assert all(re.search(rf"^  {verb}\s", result["out"], re.MULTILINE) for verb in COMMANDS)


def test_doctor_knows_the_board(there, cpu):
    result = there.command("doctor")
    assert result["code"] == 0, result["err"] + result["out"]
    assert cpu.title() in result["out"]


@pytest.mark.parametrize("kind", KINDS)
def test_inspect_shows_the_card(there, extra, kind):
    result = there.command("inspect", f"/opt/models/{model_name(extra, kind)}")
    assert result["code"] == 0, result["err"]
    assert "square, disc" in result["out"]


@pytest.mark.parametrize("kind", KINDS)
def test_verify_passes_or_advises(there, extra, kind):
    result = there.command("verify", f"/opt/models/{model_name(extra, kind)}")
    if (extra, kind) == ("openvino", "-int8") and result["code"]:
        assert ".onnx or .tflite" in result["err"]
    else:
        assert result["code"] == 0, result["err"] + result["out"]


def test_run_goes_through_a_video(there, here):
    for result in (here.command("run"), there.command("run")):
        assert result["code"] == 0, result["err"]
        assert result["out"].startswith("4 frames")


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_equal_those_of_x86(there, here, extra, kind, cpu, models, note):
    name = model_name(extra, kind)
    if error := there.record["models"][name].get("error"):
        note(cpu, name, "refused", error)
        assert (extra, kind) == ("openvino", "-int8"), error
        return
    expected, found, card = answers(here, name), answers(there, name), runtimes.read_card(models / name)
    limits = OPENVINO_INT8 if (extra, kind) == ("openvino", "-int8") else LIMITS[kind]
    note(cpu, name, *(figures(compare_outputs(expected, found, card, replace(SAME, quantile=q))) for q in (1.0, 0.5)))
    for limit in limits:
        parity = compare_outputs(expected, found, card, limit)
        assert parity.detections > 0
        assert parity.passes(limit), parity


def figures(parity: Parity) -> str:
    """What a comparison found, in short."""
    matched = f"{parity.matched}/{parity.detections}"
    return f"{matched} matched, box {parity.box_px:.2g} px, score {parity.score:.2g}, mask {parity.mask:.2g}"


def answers(outcome, name: str) -> list[RawOutputs]:
    """The raw outputs of a model for each trial picture."""
    pictures = sorted({key.split("/")[1] for key in outcome.answers if key.startswith(f"{name}/")})
    return [RawOutputs(*(outcome.answers[f"{name}/{i}/{field}"] for field in RawOutputs._fields)) for i in pictures]


def model_name(extra: str, kind: str) -> str:
    """Name of the file that one extra runs."""
    return f"toy{kind}{SUFFIXES[extra]}"
