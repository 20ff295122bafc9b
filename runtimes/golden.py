"""Golden tensors: images and their expected detections, inside the model file, so that a device can check itself.

A runtime can silently compute wrong results: OpenVINO 2025.4 to 2026.0 does so with INT8 on Arm. The export records the
model's outputs for a few generated images, and `edge-mrcnn verify` compares with them on the device. The outputs of
torch in FP32 are recorded as well, in case the exporting machine itself computes wrong results. Each format stores the
record in the same place as the model card. It is an .npz: images as PNG, boxes and scores in float32, masks of the best
rows in 12 bits. It contains no image of a user.
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
from runtimes.parity import Parity, Tolerance, compare_outputs, live_rows
from runtimes.preprocess import decode_image

MASKS = 8
"""Number of recorded masks per image, those with the highest scores; of the other rows only boxes, scores and labels
are kept."""
MASK_STEPS = 4095
"""Quantization steps of a mask probability in the record."""
MAX_BYTES = 64_000_000
"""Maximum unpacked size of a record; a larger one is damaged."""

EXPECTED = {
    "fp32": Tolerance(),
    "fp16": Tolerance(box_px=1.0, score=0.05, mask=0.4, matched=0.9, surplus=0.1, margin=0.05, quantile=0.9),
    "int8": Tolerance(box_px=3.0, score=0.1, mask=0.4, matched=0.8, surplus=0.2, margin=0.1, quantile=0.5),
}
"""Precision -> tolerance between a model file's outputs and its own record: two to four times the differences of other
instruction sets, see docs/verification.md. Rounding changes single weak detections; a runtime with wrong results also
changes the median."""

REFERENCE = {
    "fp32": EXPECTED["fp32"],
    "fp16": EXPECTED["fp16"],
    "int8": Tolerance(box_px=np.inf, score=np.inf, mask=np.inf, matched=0.5, surplus=np.inf, margin=0.2),
}
"""Precision -> tolerance to torch. The accuracy drop of INT8 is measured by a report; this only detects a complete
failure."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """One image and its expected outputs."""

    name: str
    """What it shows: "empty", "sparse" or "crowded"."""
    image: Array
    """(1, H, W, 3) uint8 RGB, the input tensor."""
    reference: RawOutputs
    """Outputs of torch in FP32: detections, and the masks of the first of them."""
    expected: RawOutputs
    """Outputs of this model file on the exporting machine."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The record for checking a model file."""

    cases: tuple[Golden, ...]
    """The images."""
    made_on: str
    """Machine and runtime of the expected outputs, such as "x86_64, onnxruntime 1.22"."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of the check of one image, or of all."""

    name: str
    """Name of the image, or "all"."""
    expected: Parity
    """Comparison with the file's own record."""
    reference: Parity
    """Comparison with torch in FP32."""
    passes: bool
    """Whether both are within tolerance."""


def make_record(runtime: Runtime, pictures: Iterable[tuple[str, Array, RawOutputs]]) -> Record:
    """Record the outputs of an opened model.

    Args:
        runtime: The model, on a machine that is trusted.
        pictures: Name, (1, H, W, 3) uint8 input tensor and torch's outputs of each image.
    """
    cases = tuple(
        Golden(name=name, image=image, reference=_shortened(reference), expected=_shortened(runtime.run(image)))
        for name, image, reference in pictures
    )
    return Record(cases=cases, made_on=describe_machine(runtime.card.target))


def count_detections(record: Record, card: ModelCard) -> int:
    """Number of detections that a device checks: those that are clear of the thresholds."""
    outputs = [case.expected for case in record.cases]
    return compare_outputs(outputs, outputs, card, tolerance_of(card.precision)).detections


def attach(path: str | Path | ModelFile, record: Record) -> None:
    """Write a record into a model file, in place of an earlier one.

    Raises:
        UsageError: If it is a bundle, which cannot be changed.
    """
    ModelFile(path).write_golden(pack(record))


def remove(path: str | Path | ModelFile) -> None:
    """Remove the record from a model file, to save space; raises as `attach` does."""
    ModelFile(path).write_golden(None)


def read(path: str | Path | ModelFile) -> Record:
    """The record in a model file.

    Raises:
        ModelFileError: If it has none, or a damaged one; else as `runtimes.load` does.
    """
    data = ModelFile(path).golden
    if data is None:
        raise ModelFileError(f"{path}: no golden tensors to verify with; export it again")
    with refusing(path, "its golden tensors are damaged"):
        return unpack(data)


def renew(source: str | Path | ModelFile, path: str | Path | ModelFile) -> None:
    """Give a quantized model file a record of its own: the same images, new outputs.

    If the source has no record, the quantized file gets none.
    """
    data = ModelFile(source).golden
    if data is None:
        return
    pictures = [(case.name, case.image, case.reference) for case in unpack(data).cases]
    with runtimes.load(path) as runtime:
        record = make_record(runtime, pictures)
    attach(path, record)


def check(runtime: Runtime, record: Record) -> list[Outcome]:
    """Compare the outputs of an opened model with a record.

    Returns:
        One outcome per image, and at the end one for all of them, which decides: quantiles of a few detections are too
        unstable.
    """
    precision = precision_of(runtime)
    outputs = [live_rows(runtime.run(case.image)) for case in record.cases]
    pairs = zip(record.cases, outputs, strict=True)
    single = [_compare(case.name, [case], [output], runtime, precision) for case, output in pairs]
    return [*single, _compare("all", record.cases, outputs, runtime, precision)]


def precision_of(runtime: Runtime) -> str:
    """Key of `EXPECTED`: the card's precision, or "fp16" if the runtime computes float layers in half precision."""
    halved = runtime.describe().get("float layers") in ("f16", "bf16")
    return "fp16" if halved and runtime.card.precision == "fp32" else runtime.card.precision


def tolerance_of(precision: str) -> Tolerance:
    """Tolerance between a model file of a precision and its own record; INT8's for an unknown precision."""
    return EXPECTED.get(precision, EXPECTED["int8"])


def _compare(
    name: str, cases: Iterable[Golden], outputs: list[RawOutputs], runtime: Runtime, precision: str
) -> Outcome:
    cases, card = tuple(cases), runtime.card
    allowed, loosely = tolerance_of(precision), REFERENCE.get(precision, REFERENCE["int8"])
    expected = compare_outputs([case.expected for case in cases], outputs, card, allowed)
    reference = compare_outputs([case.reference for case in cases], outputs, card, loosely)
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
        for kind, output in (("reference", case.reference), ("expected", case.expected)):
            arrays.update({f"{case.name}/{kind}/{field}": _narrow(field, v) for field, v in output._asdict().items()})
    header = {"names": [case.name for case in record.cases], "made_on": record.made_on}
    buffer = io.BytesIO()
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> Record:
    """Unpack the bytes of `pack`. Raises any exception of numpy, zipfile and json for other bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"they unpack to more than {MAX_BYTES:,} bytes")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        header = json.loads(arrays["header"].tobytes())
        cases = tuple(_read_case(arrays, name) for name in header["names"])
    return Record(cases=cases, made_on=str(header["made_on"]))


def _read_case(arrays: Any, name: str) -> Golden:
    image = decode_image(arrays[f"{name}/image"].tobytes(), name=name)
    outputs = {
        kind: RawOutputs(*(_widen(field, arrays[f"{name}/{kind}/{field}"]) for field in RawOutputs._fields))
        for kind in ("reference", "expected")
    }
    return Golden(name=name, image=image[None], **outputs)


def _shortened(raw: RawOutputs) -> RawOutputs:
    """Detections, with the masks of the first of them."""
    rows = live_rows(raw)
    return rows._replace(masks=rows.masks[:MASKS])


def _narrow(field: str, values: Array) -> Array:
    """A field in its storage type."""
    if field == "masks":
        values = np.rint(values * MASK_STEPS)
    return values.astype({"masks": np.uint16, "labels": np.int32}.get(field, np.float32))


def _widen(field: str, values: Array) -> Array:
    widened: Array = values.astype(np.float32) / np.float32(MASK_STEPS) if field == "masks" else values
    return widened
