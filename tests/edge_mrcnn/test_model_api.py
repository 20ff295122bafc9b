"""Our files in Open Edge Platform's model_api; without that package only the metadata of the files is tested."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
onnx = pytest.importorskip("onnx", reason="pip install 'edge-mrcnn[export]'")
pytest.importorskip("onnxscript", reason="pip install 'edge-mrcnn[export]'")
openvino = pytest.importorskip("openvino", reason="pip install 'edge-mrcnn[openvino]'")

import runtimes  # noqa: E402
from edge_mrcnn.export import model_api  # noqa: E402

SUFFIXES = (".onnx", ".xml")


@pytest.fixture(scope="module")
def files(toy_files: dict[str, Path]) -> dict[str, Path]:
    """Suffix to file."""
    return {path.suffix: path for path in toy_files.values()}


def read_description(path: Path) -> dict[str, str]:
    """The `model_info` of a file."""
    if path.suffix == ".onnx":
        properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        return {key.split()[1]: value for key, value in properties.items() if key.startswith("model_info ")}
    model = openvino.Core().read_model(path)
    card = runtimes.read_card(path)
    return {key: model.get_rt_info(["model_info", key]).astype(str) for key in model_api.describe(card)}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_describes_itself(files: dict[str, Path], suffix: str) -> None:
    found = read_description(files[suffix])
    assert found["model_type"] == "MaskRCNN"
    assert found["labels"] == "background square disc"
    assert (found["resize_type"], found["reverse_input_channels"]) == ("fit_to_window", "False")
    assert 0 <= int(found["pad_value"]) <= 255


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_fifth_output_is_boxes_and_scores(files: dict[str, Path], suffix: str, noise_tensors: list[np.ndarray]) -> None:
    model = openvino.Core().compile_model(files[suffix], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert [port.get_any_name() for port in model.outputs][-1] == model_api.OUTPUT
    found = model(noise_tensors[0])
    joined = np.concatenate([found["boxes"], found["scores"][:, None]], 1)
    assert len(joined) > 0 and np.array_equal(found[model_api.OUTPUT], joined)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.skipif(not importlib.util.find_spec("model_api"), reason="pip install openvino-model-api")
def test_their_wrapper_finds_the_same(files: dict[str, Path], suffix: str, noise_tensors: list[np.ndarray]) -> None:
    from model_api.adapters import OpenvinoAdapter
    from model_api.models import Model

    options = {"INFERENCE_PRECISION_HINT": "f32"}
    adapter = OpenvinoAdapter(openvino.Core(), str(files[suffix]), device="CPU", plugin_config=options)
    wrapper = Model.create_model(adapter)
    with runtimes.load(files[suffix], threads=1) as runtime:
        for tensor in noise_tensors:
            ours, theirs = runtime.infer(tensor[0]), wrapper(tensor[0])
            assert type(wrapper).__name__ == "MaskRCNNModel"
            assert theirs.labels.tolist() == (ours.labels + 1).tolist()
            assert list(theirs.label_names) == [ours.names[label] for label in ours.labels]
            assert np.abs(theirs.scores - ours.scores).max() < 1e-5
            assert np.abs(theirs.bboxes - ours.boxes_xyxy).max() <= 0.51  # they round to pixels
            assert theirs.masks.shape == (len(ours), *ours.orig_shape)
