"""Golden tensors: pictures and the answers to them, inside the artefact, so that a device can check itself.

A runtime can compute wrongly without a word: OpenVINO 2025.4 to 2026.0 does so with INT8 on Arm. Whoever makes an
artefact records what it answers to a few generated pictures; `edge-mrcnn verify` asks again on the device. Beside
that lies what torch answered in FP32, in case the machine that recorded it was itself the wrong one.

Each format keeps the record where it keeps its card. It is an .npz: pictures as PNG, boxes and scores in float32,
masks of the best rows in 12 bits. No picture of a user is in it.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import platform
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import runtimes
from runtimes.base import Array, RawOutputs, Runtime, refusing
from runtimes.errors import ModelFileError
from runtimes.formats import FORMATS
from runtimes.model_card import ModelCard
from runtimes.model_file import ModelFile
from runtimes.parity import Parity, Tolerance, compare_answers, live_rows
from runtimes.preprocess import decode_image

MASKS = 8
"""Masks that are kept of each answer, those of the best scores; of the other rows boxes, scores and labels."""
MASK_STEPS = 4095
"""Steps of a mask probability in the record."""
MAX_BYTES = 64_000_000
"""A record that unpacks to more is damaged."""

EXPECTED = {
    "fp32": Tolerance(),
    "fp16": Tolerance(box_px=1.0, score=0.05, mask=0.4, matched=0.9, surplus=0.1, margin=0.05, quantile=0.9),
    "int8": Tolerance(box_px=3.0, score=0.1, mask=0.4, matched=0.8, surplus=0.2, margin=0.1, quantile=0.5),
}
"""Precision to how far an artefact may be from its own record: two to four times what other instruction sets gave, see
docs/verification.md. Rounding moves single weak detections; a runtime that computes wrongly moves the median too."""

REFERENCE = {
    "fp32": EXPECTED["fp32"],
    "fp16": EXPECTED["fp16"],
    "int8": Tolerance(box_px=np.inf, score=np.inf, mask=np.inf, matched=0.5, surplus=np.inf, margin=0.2),
}
"""Precision to how far it may be from torch. How much INT8 loses is for a report; here only a collapse is caught."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """One picture and what is expected of it."""

    name: str
    """What it shows: "empty", "sparse" or "crowded"."""
    image: Array
    """(1, H, W, 3) uint8 RGB, the input tensor."""
    reference: RawOutputs
    """What torch answered in FP32: live rows, the masks of the first of them."""
    expected: RawOutputs
    """What this artefact answered where it was made."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """All that an artefact carries to be checked by."""

    cases: tuple[Golden, ...]
    """The pictures."""
    made_on: str
    """Machine and runtime that gave the expected answers, such as "x86_64, onnxruntime 1.22"."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a check of one picture, or of all, found."""

    name: str
    """The picture, or "all"."""
    expected: Parity
    """Against the artefact's own record."""
    reference: Parity
    """Against torch in FP32."""
    passes: bool
    """Whether both are within tolerance."""


def make_record(runtime: Runtime, pictures: Iterable[tuple[str, Array, RawOutputs]]) -> Record:
    """Ask an opened artefact and note its answers.

    Args:
        runtime: The artefact, on a machine that is trusted.
        pictures: Name, (1, H, W, 3) uint8 input tensor and torch's answer of each.
    """
    cases = tuple(
        Golden(name=name, image=image, reference=_shortened(reference), expected=_shortened(runtime.run(image)))
        for name, image, reference in pictures
    )
    return Record(cases=cases, made_on=describe_machine(runtime.card.target))


def count_detections(record: Record, card: ModelCard) -> int:
    """How many detections a device will be checked on: those that are clear of the thresholds."""
    answers = [case.expected for case in record.cases]
    return compare_answers(answers, answers, card, tolerance_of(card.precision)).detections


def attach(path: str | Path | ModelFile, record: Record) -> None:
    """Put a record into a model file, in place of the one that it has.

    Raises:
        UsageError: If it is a bundle, which is not changed.
    """
    ModelFile(path).write_golden(pack(record))


def remove(path: str | Path | ModelFile) -> None:
    """Take the record out of a model file, where its size counts; raises as `attach` does."""
    ModelFile(path).write_golden(None)


def read(path: str | Path | ModelFile) -> Record:
    """The record in a model file.

    Raises:
        ModelFileError: If it has none, or a damaged one; else as `runtimes.load` does.
    """
    data = ModelFile(path).golden
    if data is None:
        raise ModelFileError(f"{path}: no golden tensors in it to verify by; export it again")
    with refusing(path, "its golden tensors are damaged"):
        return unpack(data)


def renew(source: str | Path | ModelFile, path: str | Path | ModelFile) -> None:
    """Give what was made from an artefact, by quantizing it, a record of its own: same pictures, new answers.

    An artefact without a record leads to one without.
    """
    data = ModelFile(source).golden
    if data is None:
        return
    pictures = [(case.name, case.image, case.reference) for case in unpack(data).cases]
    with runtimes.load(path) as runtime:
        record = make_record(runtime, pictures)
    attach(path, record)


def check(runtime: Runtime, record: Record) -> list[Outcome]:
    """Ask an opened artefact again.

    Returns:
        One outcome for each picture, and at the end one for all of them, whose verdict counts: the quantiles of a
        few detections are no measure.
    """
    precision = precision_of(runtime)
    answers = [live_rows(runtime.run(case.image)) for case in record.cases]
    pairs = zip(record.cases, answers, strict=True)
    single = [_compare(case.name, [case], [answer], runtime, precision) for case, answer in pairs]
    return [*single, _compare("all", record.cases, answers, runtime, precision)]


def precision_of(runtime: Runtime) -> str:
    """Key of `EXPECTED`: the card's precision, or "fp16" where the runtime computes the rest in half precision."""
    halved = runtime.describe().get("float layers") in ("f16", "bf16")
    return "fp16" if halved and runtime.card.precision == "fp32" else runtime.card.precision


def tolerance_of(precision: str) -> Tolerance:
    """How far an artefact of a precision may be from its own record; of an unknown one as far as INT8."""
    return EXPECTED.get(precision, EXPECTED["int8"])


def _compare(
    name: str, cases: Iterable[Golden], answers: list[RawOutputs], runtime: Runtime, precision: str
) -> Outcome:
    cases, card = tuple(cases), runtime.card
    allowed, loosely = tolerance_of(precision), REFERENCE.get(precision, REFERENCE["int8"])
    expected = compare_answers([case.expected for case in cases], answers, card, allowed)
    reference = compare_answers([case.reference for case in cases], answers, card, loosely)
    passes = expected.passes(allowed) and reference.passes(loosely)
    return Outcome(name=name, expected=expected, reference=reference, passes=passes)


def describe_machine(target: str) -> str:
    """This machine and the version of the runtime: "aarch64, openvino 2026.4.1"."""
    return ", ".join([platform.machine(), *_versions(target)])


def _versions(target: str) -> Iterable[str]:
    packages = FORMATS[target].packages if target in FORMATS else ()
    for package in packages:
        try:
            yield f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue


def pack(record: Record) -> bytes:
    """A record as bytes."""
    arrays: dict[str, Array] = {}
    for case in record.cases:
        _, png = cv2.imencode(".png", cv2.cvtColor(case.image[0], cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
        arrays[f"{case.name}/image"] = png
        for kind, answer in (("reference", case.reference), ("expected", case.expected)):
            arrays.update({f"{case.name}/{kind}/{field}": _narrow(field, v) for field, v in answer._asdict().items()})
    header = {"names": [case.name for case in record.cases], "made_on": record.made_on}
    buffer = io.BytesIO()
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> Record:
    """What `pack` packed. Raises whatever numpy, zipfile and json do for something else."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"they unpack to more than {MAX_BYTES:,} bytes")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        header = json.loads(arrays["header"].tobytes())
        cases = tuple(_read_case(arrays, name) for name in header["names"])
    return Record(cases=cases, made_on=str(header["made_on"]))


def _read_case(arrays: Any, name: str) -> Golden:
    image = decode_image(arrays[f"{name}/image"].tobytes(), name=name)
    answers = {
        kind: RawOutputs(*(_widen(field, arrays[f"{name}/{kind}/{field}"]) for field in RawOutputs._fields))
        for kind in ("reference", "expected")
    }
    return Golden(name=name, image=image[None], **answers)


def _shortened(raw: RawOutputs) -> RawOutputs:
    """Live rows, with the masks of the first of them."""
    rows = live_rows(raw)
    return rows._replace(masks=rows.masks[:MASKS])


def _narrow(field: str, values: Array) -> Array:
    """A field in the type in which it is kept."""
    if field == "masks":
        values = np.rint(values * MASK_STEPS)
    return values.astype({"masks": np.uint16, "labels": np.int32}.get(field, np.float32))


def _widen(field: str, values: Array) -> Array:
    widened: Array = values.astype(np.float32) / np.float32(MASK_STEPS) if field == "masks" else values
    return widened
