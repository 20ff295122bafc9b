"""Advice for combinations of hardware and versions that compute wrongly."""

from __future__ import annotations

import pytest

from runtimes import FakeRuntime
from runtimes.board import Board
from runtimes.known_faults import advise

CARD = FakeRuntime().card.updated(target="openvino", precision="int8")


def board(architecture: str, *features: str) -> Board:
    return Board(
        model="board", processor="Cortex", architecture=architecture, cores=4, memory_bytes=0, features=features
    )


PI4, PI5 = board("aarch64", "neon"), board("aarch64", "dotprod", "fp16", "neon")
PC, OLD_PC = board("x86_64", "avx512", "vnni"), board("x86_64", "avx2")


@pytest.mark.parametrize("version", ["2025.4.1", "2026.0.0-20965", "2026.1.0"])
def test_versions_that_are_wrong_on_arm_are_named(version: str) -> None:
    (advice,) = advise(CARD, PI5, version)
    assert version in advice and "openvino>=2026.2" in advice


@pytest.mark.parametrize("version", ["2025.3.0", "2026.2.0", "2026.4.1"])
def test_versions_that_are_right_are_not(version: str) -> None:
    assert advise(CARD, PI5, version) == []


def test_pi_4_is_advised_to_run_int8_in_float() -> None:
    (advice,) = advise(CARD, PI4, "2026.4.1")
    assert "--no-integer" in advice and "LP_TRANSFORMS_MODE" in advice


@pytest.mark.parametrize("change", [{"target": "onnx"}, {"target": "tflite"}, {"precision": "fp32"}])
def test_other_models_are_not_concerned(change: dict[str, str]) -> None:
    assert advise(CARD.updated(**change), PI4, "2026.0.0") == []


def test_other_processors_are_not_concerned() -> None:
    assert advise(CARD, PC, "2026.0.0") == []


@pytest.mark.parametrize("target", ["openvino", "onnx"])
def test_x86_without_vnni_is_warned_of_8_bit_weights(target: str) -> None:
    (advice,) = advise(CARD.updated(target=target), OLD_PC)
    assert "VNNI" in advice and "--reduce-range on" in advice
    assert advise(CARD.updated(target=target, calibration={"weight_bits": 7}), OLD_PC) == []


def test_tflite_does_not_overflow() -> None:
    assert advise(CARD.updated(target="tflite"), OLD_PC) == []
