"""ONNX: the card is the metadata property "edge_mrcnn" of the model; golden tensors are another property in base64.

They are found and replaced among the outermost fields of the protobuf, which needs no package and takes milliseconds.
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, ModelProto and StringStringEntryProto
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from runtimes.errors import UsageError
from runtimes.formats.base import DIGEST_LENGTH, SEAL_KEY, Format, Notes, Options, SealFrame
from runtimes.formats.protobuf import Field, scan_fields, write_bytes
from runtimes.model_card import CARD_KEY, GOLDEN_KEY

METADATA_PROPS = 14
"""Number of the field of ModelProto that holds a property."""
KEY, VALUE = 1, 2
"""Numbers of the fields of a property."""


class Plugin(NamedTuple):
    """An execution provider in a package of its own."""

    module: str
    """Module to import."""
    package: str
    """Package to install besides onnxruntime."""


PLUGINS = {
    "openvino": Plugin("onnxruntime_ep_openvino", "onnxruntime-ep-openvino"),
    "tensorrt-rtx": Plugin("onnxruntime_ep_nv_tensorrt_rtx", "onnxruntime-ep-nv-tensorrt-rtx"),
    "qnn": Plugin("onnxruntime_qnn", "onnxruntime-qnn"),
}
"""Device -> plug-in: Intel's processors, GPUs and NPUs; NVIDIA's RTX; Qualcomm's NPUs."""


@dataclass(frozen=True, kw_only=True)
class OnnxOptions(Options):
    """Options of ONNX Runtime."""

    spinning: bool = False
    """Whether threads wait for the next operator by spinning. This reduces the latency on an otherwise idle machine; on
    two busy processors it doubled the CPU time of a frame and raised its latency by 60 %."""
    providers: Sequence[str] | None = None
    """Execution providers in order of preference, instead of the device's."""
    cache_dir: str | Path | None = None
    """Folder for TensorRT's engines, which take minutes to build; by default one of the user's cache for each model."""

    def __post_init__(self) -> None:
        if isinstance(self.providers, str):
            raise UsageError(f"providers {self.providers!r}: expected a list of names, such as [{self.providers!r}]")


def read_notes(data: bytes) -> Notes:
    """See `Format`."""
    properties = {key: value for key, value, _ in _read_properties(data)}
    card, golden = properties.get(CARD_KEY), properties.get(GOLDEN_KEY)
    return Notes(
        card=None if card is None else card.decode(),
        golden=None if golden is None else base64.b64decode(golden, validate=True),
    )


def write_notes(data: bytes, notes: Notes) -> bytes:
    """See `Format`: other properties stay in place, ours are appended."""
    kept, place = [], 0
    for key, _, field in _read_properties(data):
        if key in (CARD_KEY, GOLDEN_KEY, SEAL_KEY):
            kept.append(data[place : field.start])
            place = field.end
    kept.append(data[place:])
    if notes.card is not None:
        kept.append(_write_property(CARD_KEY, notes.card.encode()))
    if notes.golden is not None:
        kept.append(_write_property(GOLDEN_KEY, base64.b64encode(notes.golden)))
    return b"".join(kept)


def _read_properties(data: bytes) -> list[tuple[str, bytes, Field]]:
    """Key, value and position of each property of a model."""
    properties = []
    for field in scan_fields(data):
        if field.number == METADATA_PROPS:
            entry = data[field.value : field.end]
            texts = {part.number: entry[part.value : part.end] for part in scan_fields(entry)}
            properties.append((texts.get(KEY, b"").decode(), texts.get(VALUE, b""), field))
    return properties


def _write_property(key: str, value: bytes) -> bytes:
    return write_bytes(METADATA_PROPS, write_bytes(KEY, key.encode()) + write_bytes(VALUE, value))


def _seal_frame() -> SealFrame:
    """The seal is a property of its own, the last field of the file."""
    blank = _write_property(SEAL_KEY, bytes(DIGEST_LENGTH))
    return SealFrame(blank[:-DIGEST_LENGTH])


ONNX = Format(
    name="onnx",
    title="ONNX Runtime",
    suffix=".onnx",
    packages=("onnxruntime", "onnxruntime-gpu"),
    extra="onnx",
    devices=("cpu", "cuda", "tensorrt"),
    plugins=tuple(PLUGINS),
    options=OnnxOptions,
    backend="runtimes.onnx_backend",
    seal=_seal_frame(),
    read_notes=read_notes,
    write_notes=write_notes,
)
