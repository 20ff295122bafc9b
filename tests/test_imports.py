"""The packages of a device import without torch, torchvision and onnx."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = "import sys; sys.modules.update(dict.fromkeys(['torch', 'torchvision', 'onnx']));"
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "module",
    [
        "runtimes",
        "runtimes.onnx_backend",
        "runtimes.openvino_backend",
        "runtimes.tflite_backend",
        "runtimes.stream",
        "edge_mrcnn.cli",
        "edge_mrcnn.cli.run",
        "edge_mrcnn.cli.service",
        "edge_mrcnn.live.web",
        "edge_mrcnn.cli.predict",
        "edge_mrcnn.cli.report",
        "edge_mrcnn.cli.verify",
        "edge_mrcnn.cli.inspect",
        "edge_mrcnn.benchmark.worker",
        "edge_mrcnn.cli.benchmark",
        "edge_mrcnn.cli.doctor",
        "edge_mrcnn.cli.tune",
        "edge_mrcnn.benchmark.run",
        "edge_mrcnn.doctor.diagnosis",
        "edge_mrcnn.tune.search",
        "edge_mrcnn.evaluation.drop",
        "edge_mrcnn.report.comparison",
        "edge_mrcnn.report.render",
    ],
)
def test_imports_without_torch(module):
    subprocess.run([sys.executable, "-c", f"{BLOCK} import {module}"], check=True, cwd=ROOT)


def test_package_imports_no_sdk():
    sdks = "{'onnxruntime', 'openvino', 'ai_edge_litert', 'av', 'supervision'}"
    code = f"import sys, runtimes, edge_mrcnn.cli; sys.exit(', '.join({sdks} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_openvino_opens_without_its_converter_which_stays_within_reach():
    pytest.importorskip("openvino", reason="needs edge-mrcnn[openvino]")
    code = (
        "import sys, runtimes.openvino_backend, openvino; assert 'openvino.tools.ovc' not in sys.modules\n"
        "assert not hasattr(openvino, 'nonsense'); from openvino import convert_model; assert callable(convert_model)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_arrows_of_import_never_turn_back():
    """The import contracts are in pyproject.toml, below [tool.importlinter]."""
    pytest.importorskip("importlinter", reason="needs edge-mrcnn[dev] on Python 3.11 or later")
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    checked = subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout
