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

if TYPE_CHECKING:  # a device that runs another format starts sooner without
    from xml.etree import ElementTree

CARD, GOLDEN = "card", "golden"
"""Elements below `CARD_KEY`."""
PRECISIONS = ("f32", "f16", "bf16", "auto")
"""What float layers may be computed in."""
OPEN, CLOSE, END = b"<rt_info>", b"</rt_info>", b"</net>"
SEAL = SealFrame(f"<!-- {SEAL_KEY} ".encode(), b" -->\n")
"""A comment behind everything else."""


@dataclass(frozen=True, kw_only=True)
class OpenVinoOptions(Options):
    """What OpenVINO alone can be asked for."""

    precision: str = "f32"
    """Of float layers: "f32" computes what the report measured; "auto" lets the device choose, which is bf16 on many
    x86 and fp16 on Arm; "f16" and "bf16" ask for one."""
    cache_dir: str | Path | None = None
    """Folder for compiled models, which makes the next start faster; none by default."""
    integer: bool | None = None
    """Whether quantized layers compute in integers. By default they do where OpenVINO can: on Arm cores without
    half-precision arithmetic (Raspberry Pi 4, Jetson Nano) they run in float."""
    streams: int = 1
    """Frames that the model is compiled for at once, at least 1; `Runtime.lanes` compiles it again for more."""

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
    """See `Format`: what other tools keep in the runtime information stays."""
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
    """Where the model's runtime information begins and ends, which is one place where there is none.

    Raises:
        ValueError: If this is no model.
    """
    net = data.rfind(END)
    if net < 0:
        raise ValueError("it does not end as a model does")
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
