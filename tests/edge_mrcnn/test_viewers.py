"""Our files in model viewers; each viewer is tested where it is installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest

OPENER = Path(__file__).parents[2] / "benchmarks" / "netron_open.mjs"
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def netron(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Netron's scripts, in a folder that says that they are modules."""
    spec = importlib.util.find_spec("netron")
    if spec is None or spec.origin is None or not shutil.which("node"):
        pytest.skip("needs node, and pip install netron")
    folder = tmp_path_factory.mktemp("viewer") / "netron"
    shutil.copytree(Path(spec.origin).parent, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


@pytest.mark.parametrize(("suffix", "graphs"), [(".onnx", 1), (".xml", 1), (".tflite", 2)])
def test_netron_opens_it(netron: Path, model_files: dict[str, Path], suffix: str, graphs: int) -> None:
    command = ["node", str(OPENER), str(netron), str(model_files[suffix])]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["graphs"]
    assert len(found) == graphs and all(graph["nodes"] > 0 for graph in found)


def test_model_explorer_opens_the_tflite_file(model_files: dict[str, Path]) -> None:
    adapter = pytest.importorskip("ai_edge_model_explorer_adapter", reason="pip install ai-edge-model-explorer-adapter")
    text = adapter.ConvertFlatbufferDirectlyToJson(adapter.VisualizeConfig(), str(model_files[".tflite"]))
    (collection,) = json.loads(text)
    assert {graph["id"] for graph in collection["subgraphs"]} == {"detect", "mask"}
    assert all(graph["nodes"] for graph in collection["subgraphs"])
