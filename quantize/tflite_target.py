"""INT8 for TFLite, by ai-edge-quantizer on the exported file.

The learned layers become INT8 with static ranges. Box arithmetic, NMS, RoIAlign and the input and output tensors stay
in float: in INT8 they would be wrong, and slower. Layers are selected by their tensor names, which contain the names of
their modules.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import quantizer
from ai_edge_quantizer.calibrator import Calibrator
from ai_edge_quantizer.qtyping import TFLOperationName
from ai_edge_quantizer.recipe_manager import RecipeManager
from numpy.typing import NDArray

from quantize.base import Quantizer, provenance
from quantize.calibration import CalibrationSet
from quantize.pace import tell_pace
from quantize.parts import FLOAT_STEM, NO_KERNEL, PIXEL, TENSORS, block_of, module_path, tensor_pattern
from quantize.settings import QuantizeConfig
from runtimes.errors import DataError
from runtimes.formats.tflite_format import strip_notes
from runtimes.model_file import ModelFile

Tensors = dict[str, NDArray[Any]]
Weights = NDArray[np.float32]


class TfliteQuantizer(Quantizer):
    """An FP32 TFLite file and its ranges."""

    def __init__(self, model: ModelFile, calibration: CalibrationSet, config: QuantizeConfig) -> None:
        """Run the model on the calibration images.

        Args:
            model: File that `edge-mrcnn export` wrote.
            calibration: Calibration images, like those that the camera will see.
            config: Settings of the quantization.

        Raises:
            DataError: If there are no detections in any image, so that the mask head cannot be calibrated.
            ModelFileError: If the model is damaged or was not made by edge-mrcnn.
        """
        super().__init__(model.card, calibration, config)
        self._flatbuffer = flatten_biases(strip_notes(model.path.read_bytes()))
        self._stem = stem = find_stem(self._flatbuffer)
        self._early = [tensor_pattern(layer) for layer in self.card.float_layers]
        self._also_float = reasons_without_kernel(self._flatbuffer)
        if not stem.pixels:
            self._early.append(exact_pattern(stem.name))
            self._also_float |= FLOAT_STEM
        self._outputs = outputs_by_block(self._flatbuffer, self._early)
        with _quietly():
            images = calibration.tensors(self.card, config.images, config.seed)
            count = len(calibration.choose(config.images, config.seed))
            paced = tell_pace(images, count, model.name)
            self._ranges = measure_ranges(self._flatbuffer, build_recipe(self._early), paced)
        if stem.pixels:
            self._rounded = round_stem(self._flatbuffer, self.round_stem)
            darkest, brightest = np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
            self._ranges[stem.pixels].update(min=darkest, max=brightest)

    @property
    def blocks(self) -> tuple[str, ...]:
        return tuple(self._outputs)

    def write(self, output: Path, keep_float: Collection[str], *, is_draft: bool = False) -> None:
        floats: list[str] = []
        for block in keep_float:
            floats += self._outputs[block]
        is_rounded = self._stem.pixels and self._stem.name not in floats
        flatbuffer = self._rounded if is_rounded else self._flatbuffer
        recipe = build_recipe([*self._early, *map(exact_pattern, floats)])
        tool = quantizer.Quantizer(bytearray(flatbuffer), recipe.get_quantization_recipe())
        with _quietly():
            quantized = tool.quantize(self._ranges, enable_progress_report=False).quantized_model
        restored = restore_outputs(self._flatbuffer, bytes(quantized))
        output.write_bytes(shorten_names(restored))
        said = provenance(self.calibration, self.config, keep_float, self._also_float)
        ModelFile(output).write_card(self.card.updated(precision="int8", calibration=said))


def flatten_biases(flatbuffer: bytes) -> bytes:
    """A float model whose fully connected layers have biases of one dimension.

    The converter turns an addition behind a product into a bias of shape (1, 1, 1, C). ai-edge-quantizer then assigns
    the C scales to the first dimension, and LiteRT refuses the file.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    for graph in model.subgraphs:
        for operator in graph.operators:
            if _kind_of(model, operator) != _CODE.FULLY_CONNECTED or len(operator.inputs) < 3 or operator.inputs[2] < 0:
                continue
            bias = graph.tensors[operator.inputs[2]]
            bias.shape = np.array([np.prod(bias.shape)], np.int32)
            bias.shapeSignature = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@dataclass(frozen=True)
class Stem:
    """The first convolution."""

    name: str
    """Name of its output."""
    pixels: str | None
    """The float tensor of the image's bytes times `PIXEL`, if that is its input."""


def find_stem(flatbuffer: bytes) -> Stem:
    """The first convolution of a float model."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    graph = model.subgraphs[0]
    place = _place_of_stem(model)
    name = graph.tensors[graph.operators[place].outputs[0]].name.decode()
    before = [operator for operator in graph.operators[:place] if _kind_of(model, operator) != _CODE.PAD]
    if [_kind_of(model, operator) for operator in before] != [_CODE.CAST, _CODE.MUL]:
        return Stem(name, None)
    _, scale = before
    buffer = model.buffers[graph.tensors[scale.inputs[1]].buffer]
    factor = np.frombuffer(bytes(buffer.data), np.float32)
    if not np.allclose(factor, PIXEL, rtol=1e-6, atol=0):
        return Stem(name, None)
    return Stem(name, graph.tensors[scale.outputs[0]].name.decode())


def _place_of_stem(model: Any) -> int:
    """Index of the first convolution's operator."""
    kinds = [_kind_of(model, operator) for operator in model.subgraphs[0].operators]
    return kinds.index(_CODE.CONV_2D)


def _kind_of(model: Any, operator: Any) -> int:
    """One of `_CODE`."""
    return int(model.operatorCodes[operator.opcodeIndex].builtinCode)


def round_stem(flatbuffer: bytes, round_: Callable[[Weights], Weights]) -> bytes:
    """A float model with other weights of its first convolution, made by a function of (N, 3, h, w) weights."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    graph = model.subgraphs[0]
    stem = graph.operators[_place_of_stem(model)]
    tensor = graph.tensors[stem.inputs[1]]
    buffer = model.buffers[tensor.buffer]
    channels_last = np.frombuffer(bytes(buffer.data), np.float32).reshape(tensor.shape)
    rounded = round_(channels_last.transpose(0, 3, 1, 2))
    buffer.data = np.frombuffer(rounded.transpose(0, 2, 3, 1).tobytes(), np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


_CODE = schema.BuiltinOperator


def outputs_by_block(flatbuffer: bytes, floats: Sequence[str] = ()) -> dict[str, list[str]]:
    """Block, such as "backbone.stage2.0" -> names of its operators' outputs, in the order of the graph.

    Args:
        flatbuffer: A float model.
        floats: Regular expressions of names of outputs whose operators always stay in float.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    found: dict[str, list[str]] = defaultdict(list)
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = graph.tensors[operator.outputs[0]].name.decode()
            block = block_of(module_path(name))
            is_float = any(re.search(regex, f"{name};") for regex in floats)
            if block is not None and not is_float:
                found[block].append(name)
    return found


def reasons_without_kernel(flatbuffer: bytes) -> dict[str, str]:
    """The operators of a model without an INT8 kernel, in words, and why they stay in float."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    present = {code.builtinCode for code in model.operatorCodes}
    found = {}
    for kind, why in NO_KERNEL["tflite"].items():
        if getattr(_CODE, kind) in present:
            found[kind.lower().replace("_", "-")] = why
    return found


def exact_pattern(name: str) -> str:
    """A regular expression for the operator with this output, and for no other with a longer name."""
    return rf"^{re.escape(name)};(?!\d)"


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the quantizer's progress bars, one per image, and the interpreter's message that it keeps all tensors."""
    with redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors", category=UserWarning)
        yield


def build_recipe(floats: Sequence[str] = ()) -> RecipeManager:
    """Which operators become INT8; later rules override earlier ones.

    Args:
        floats: Regular expressions of names of outputs whose operators stay in float.
    """
    recipe = RecipeManager()
    recipe.add_static_config(TENSORS, TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    for kind in ("INPUT", "OUTPUT", *NO_KERNEL["tflite"]):
        if kind in TFLOperationName.__members__:  # the quantizer ignores unknown operators
            _keep_float(recipe, ".*", TFLOperationName[kind])
    for regex in floats:
        _keep_float(recipe, regex, TFLOperationName.ALL_SUPPORTED)
    return recipe


def _keep_float(recipe: RecipeManager, regex: str, operation: TFLOperationName) -> None:
    recipe.add_quantization_config(regex, operation, algorithm_key="no_quantize")


def measure_ranges(flatbuffer: bytes, recipe: RecipeManager, images: Iterator[NDArray[np.uint8]]) -> dict[str, Any]:
    """The range of each tensor that becomes INT8, over some images.

    The mask head is run with the boxes, labels and maps of the float `detect`: proposals as in FP32.

    Args:
        flatbuffer: The float model.
        recipe: Operators that become INT8.
        images: (1, H, W, 3) uint8 RGB tensors, read one at a time.

    Raises:
        DataError: If there are no detections in any of them.
    """
    calibrator = Calibrator(flatbuffer, num_threads=1)
    batch = _mask_batch(flatbuffer)
    found = False
    for image in images:
        calibrator.calibrate({"detect": [{"image": image}]}, recipe, cache_output=True)
        (outputs,) = calibrator.get_cached_output()
        calibrator.clear_cached_output()
        inputs = list(mask_inputs(outputs, batch))
        if inputs:
            calibrator.calibrate({"mask": inputs}, recipe)
            found = True
    if not found:
        raise DataError("the float model detects nothing in the calibration images; use images that show its classes")
    ranges: dict[str, Any] = calibrator.get_model_qsvs()
    return ranges


def mask_inputs(outputs: Tensors, batch: int) -> Iterator[Tensors]:
    """Inputs of `mask` for outputs of `detect`; the last batch is filled by repeating its own rows."""
    live = np.flatnonzero(outputs["scores"] > 0)
    maps = {name: value for name, value in outputs.items() if name not in ("boxes", "scores", "labels")}
    for start in range(0, len(live), batch):
        own_rows = live[start : start + batch]
        rows = np.resize(own_rows, batch)
        yield {"boxes": outputs["boxes"][rows], "labels": outputs["labels"][rows], **maps}


def _mask_batch(flatbuffer: bytes) -> int:
    mask = Interpreter(model_content=flatbuffer).get_signature_runner("mask")
    return int(mask.get_input_details()["boxes"]["shape"][0])


def restore_outputs(model: bytes, quantized: bytes) -> bytes:
    """Restore the float outputs of a quantized model.

    If an operator also reads an output of the graph, the quantizer inserts a QUANTIZE or DEQUANTIZE between them, and
    then the graph refers to one side of it and the signature to the other. The order of a graph's outputs stays.
    """
    before = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    after = flatbuffer_utils.read_model_from_bytearray(bytearray(quantized))
    for old, new in zip(before.signatureDefs, after.signatureDefs, strict=True):
        old_graph = before.subgraphs[old.subgraphIndex]
        new_graph = after.subgraphs[new.subgraphIndex]
        indices = {entry.name: entry.tensorIndex for entry in old.outputs}
        for entry in new.outputs:
            index = indices[entry.name]
            place = list(old_graph.outputs).index(index)
            kind = old_graph.tensors[index].type
            ends = (entry.tensorIndex, new_graph.outputs[place])
            same_kind = next(end for end in ends if new_graph.tensors[end].type == kind)
            entry.tensorIndex = same_kind
            new_graph.outputs[place] = same_kind
    return bytes(flatbuffer_utils.convert_object_to_bytearray(after))


def shorten_names(flatbuffer: bytes) -> bytes:
    """Remove modules and classes from the tensors' names, which are a tenth of a small file.

    "torch.nn.modules.container.Sequential_stage2/torch.nn.modules.conv.Conv2d_0;8" becomes "_stage2/_0;8".
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            short = re.sub(_CLASS, "", tensor.name.decode())
            tensor.name = short.encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


_CLASS = r"(?<![\w.])(?:[a-z]\w*\.)+(?:[A-Z][A-Za-z0-9]*(?=_\w))?"
"""The modules of a class, and the class as well if its attribute name follows."""
