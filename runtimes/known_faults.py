"""Combinations of runtime, version and processor that are known to compute wrong results, and alternatives.

Seen on emulated Raspberry Pi 4 and 5 with one INT8 model per version; https://github.com/openvinotoolkit/openvino issue
34673 reports the same on a real Arm processor.
"""

from __future__ import annotations

import importlib.metadata
import re

from runtimes.board import Board
from runtimes.model_card import ModelCard

WRONG_ON_ARM = ((2025, 4), (2026, 2))
"""OpenVINO versions from the first up to, but without, the second silently compute wrong INT8 results on Arm."""


def advise(card: ModelCard, board: Board, openvino: str | None = None) -> list[str]:
    """Known faults of such a model on such a machine.

    Args:
        card: Card of the model.
        board: The machine.
        openvino: Version of OpenVINO; the installed one if None.

    Returns:
        A sentence with advice for each fault; empty if none is known.
    """
    if card.precision != "int8" or card.target not in ("openvino", "onnx"):
        return []
    if not board.is_arm:
        return _advise_x86(card, board)
    if card.target != "openvino":
        return []
    advice = []
    version = openvino or importlib.metadata.version("openvino")
    if WRONG_ON_ARM[0] <= _release(version) < WRONG_ON_ARM[1]:
        advice.append(
            f"OpenVINO {version} computes wrong INT8 results on Arm: install openvino>=2026.2 or ==2025.3.*, "
            "or run the INT8 .onnx or .tflite, which are correct there"
        )
    if "fp16" not in board.features:
        advice.append(
            f"{board.processor} has no half-precision arithmetic, which OpenVINO's INT8 layers need on Arm: "
            "use --no-integer (LP_TRANSFORMS_MODE), or run the INT8 .onnx or .tflite"
        )
    return advice


def _advise_x86(card: ModelCard, board: Board) -> list[str]:
    """Without VNNI, pairs of products are added in 16 bits, which 8-bit weights can overflow (VPMADDUBSW)."""
    if "vnni" in board.features or card.calibration.get("weight_bits", 8) < 8:
        return []
    return [
        f"{board.processor} has no VNNI, and sums of this file's 8-bit weights can overflow there: "
        "quantize with --reduce-range on, or run the INT8 .tflite"
    ]


def _release(version: str) -> tuple[int, int]:
    """Year and number of a release: "2026.4.1-1234" to (2026, 4)."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
