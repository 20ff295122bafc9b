"""The deploy graph as one ONNX file of standard operators.

Every node is named after its module ("pyramid.body.net.stage2.0.branch1.0/Conv_7"), so that viewers and the quantizer
know its part of the model.
"""

from __future__ import annotations

import ast
import logging
import warnings
from functools import lru_cache
from pathlib import Path

import onnx
import torch

from edge_mrcnn.export import model_api
from edge_mrcnn.export.graph import DeployGraph
from edge_mrcnn.export.lowering.onnx_ops import translations
from runtimes.base import BATCH_OUTPUT, RawOutputs
from runtimes.model_card import ModelCard
from runtimes.model_file import ModelFile

OPSET = 18
"""The opset in which the lowerings are written."""
ROWS = "detections"
"""Name of the dynamic dimension."""


def write_onnx(graph: DeployGraph, card: ModelCard, path: Path, *, opset: int = OPSET) -> None:
    """Convert and save.

    Args:
        graph: The graph to convert.
        card: Stored as the metadata property "edge_mrcnn".
        path: File to write.
        opset: Version of ONNX's operators.
    """
    onnx.save(with_description(convert(graph, opset), card), path)
    ModelFile(path).write_card(card)


@lru_cache(maxsize=1)  # OpenVINO's file is made from the same conversion, which takes most of the time
def convert(graph: DeployGraph, opset: int) -> onnx.ModelProto:
    """The graph as an ONNX model with named nodes and, unless it is static, dynamic rows. It must not be changed."""
    image = torch.zeros(graph.batch, *graph.config.image_size_hw, 3, dtype=torch.uint8)
    names = (*RawOutputs._fields, BATCH_OUTPUT)[: 4 if graph.batch == 1 or graph.static else 5]
    with warnings.catch_warnings(), quiet("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph, (image,), dynamo=True, verbose=False, opset_version=opset, optimize=True,
            custom_translation_table=translations(graph.static), input_names=["image"], output_names=list(names),
        )  # fmt: skip
    assert program is not None  # only the older exporter returns none
    model = program.model_proto
    name_nodes(model)
    if not graph.static:
        name_rows(model)
        if graph.batch == 1:
            model_api.add_scored_boxes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def with_description(model: onnx.ModelProto, card: ModelCard) -> onnx.ModelProto:
    """A copy of a model with model_api's settings in metadata_props."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    info = {f"model_info {name}": value for name, value in model_api.describe(card).items()}
    onnx.helper.set_model_props(copy, info)
    return copy


def name_nodes(model: onnx.ModelProto) -> None:
    """Name each node after its innermost module, in place; nodes outside all modules are "deploy"."""
    for index, node in enumerate(model.graph.node):
        scopes = {p.key: p.value for p in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "[]")
        modules = [scope for scope in ast.literal_eval(scopes)[:-1] if scope]
        node.name = f"{modules[-1] if modules else 'deploy'}/{node.op_type}_{index}"
        del node.metadata_props[:]


def name_rows(model: onnx.ModelProto) -> None:
    """Name the dynamic first dimension of the outputs, in place."""
    symbol = model.graph.output[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == symbol:
                dim.dim_param = ROWS


class quiet:  # noqa: N801 (a context manager reads best in lower case)
    """Raise the level of some loggers for a while."""

    def __init__(self, *names: str) -> None:
        self._loggers = [logging.getLogger(name) for name in names]

    def __enter__(self) -> None:
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
