"""OpenVINO IR: the card is the runtime information ["edge_mrcnn", "card"] of the model, an element of `<rt_info>`.

Golden tensors lie beside it as ["edge_mrcnn", "golden"], in base64. The model's `<rt_info>` is the last element of the
.xml, so that only that is parsed; layers have others of the same name before it. Weights are in a .bin beside it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtimes.errors import UsageError
from runtimes.formats.base import SEAL_KEY, Format, Notes, Options, SealFrame
from runtimes.model_card import CARD_KEY

if TYPE_CHECKING:  # a device that uses another format starts faster without this import
    from xml.etree import ElementTree

CARD, GOLDEN = "card", "golden"
"""Elements below `CARD_KEY`."""
PRECISIONS = ("f32", "f16", "bf16", "auto")
"""Precisions of float layers."""
OPEN, CLOSE, END = b"<rt_info>", b"</rt_info>", b"</net>"
SEAL = SealFrame(f"<!-- {SEAL_KEY} ".encode(), b" -->\n")
"""A comment after everything else."""


@dataclass(frozen=True, kw_only=True)
class OpenVinoOptions(Options):
    """Options of OpenVINO."""

    precision: str = "f32"
    """Precision of float layers: "f32" is the precision of the report; "auto" lets the device choose, which is bf16 on
    many x86 and fp16 on Arm; "f16" and "bf16" select one."""
    cache_dir: str | Path | None = None
    """Folder for compiled models, which speeds up the next start; none by default."""
    integer: bool | None = None
    """Whether quantized layers compute in integers. The default is yes if OpenVINO supports it; on Arm cores without
    half-precision arithmetic (Raspberry Pi 4, Jetson Nano) they run in float."""
    streams: int = 1
    """Number of frames in flight that the model is compiled for, at least 1; `Runtime.lanes` compiles it again for
    more."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r}: expected one of {', '.join(PRECISIONS)}")
        if not isinstance(self.streams, int) or self.streams < 1:
            raise UsageError(f"streams {self.streams!r}: expected at least 1")


def read_notes(data: bytes) -> Notes:
    """See `Format`."""
    start, end = _find_info(data)
    ours = _parse(data[start:end]).find(CARD_KEY)
    if ours is None:
        return Notes(None)
    card, golden = (_value_of(ours, name) for name in (CARD, GOLDEN))
    return Notes(card, None if golden is None else base64.b64decode(golden, validate=True))


def write_notes(data: bytes, notes: Notes) -> bytes:
    """See `Format`: runtime information of other tools stays."""
    from xml.etree import ElementTree

    start, end = _find_info(data)
    info = _parse(data[start:end])
    for ours in info.findall(CARD_KEY):
        info.remove(ours)
    values = {CARD: notes.card, GOLDEN: None if notes.golden is None else base64.b64encode(notes.golden).decode()}
    ours = ElementTree.SubElement(info, CARD_KEY)
    for name, value in values.items():
        if value is not None:
            ElementTree.SubElement(ours, name, value=value)
    return data[:start] + ElementTree.tostring(info) + data[end:]


def _find_info(data: bytes) -> tuple[int, int]:
    """Start and end of the model's runtime information; both are equal if there is none.

    Raises:
        ValueError: If this is not a model.
    """
    net = data.rfind(END)
    if net < 0:
        raise ValueError("the file is truncated")
    end = data.rfind(CLOSE, 0, net) + len(CLOSE)
    start = data.rfind(OPEN, 0, end)
    is_last = end >= len(CLOSE) and not data[end:net].strip()
    return (start, end) if is_last and start >= 0 else (net, net)


def _parse(text: bytes) -> ElementTree.Element:
    from xml.etree import ElementTree

    return ElementTree.fromstring(text) if text else ElementTree.Element("rt_info")


def _value_of(parent: ElementTree.Element, name: str) -> str | None:
    element = parent.find(name)
    return None if element is None else element.get("value")


OPENVINO = Format(
    name="openvino",
    title="OpenVINO",
    suffix=".xml",
    companions=(".bin",),
    packages=("openvino",),
    extra="openvino",
    devices=("cpu", "gpu", "npu", "auto"),
    device_groups=("hetero", "multi"),
    options=OpenVinoOptions,
    backend="runtimes.openvino_backend",
    seal=SEAL,
    read_notes=read_notes,
    write_notes=write_notes,
)
