"""The content of a report as plain records; `render` formats them.

AP and drops are in [0, 1] here and in the JSON; the tables show points, which are 100 times as large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from edge_mrcnn.evaluation.agreement import Agreement
from edge_mrcnn.evaluation.breakdown import ErrorCost
from edge_mrcnn.evaluation.drop import Drop, is_usable
from edge_mrcnn.evaluation.metrics import ApSummary
from edge_mrcnn.evaluation.pairing import Pairing
from edge_mrcnn.measure.latency import Percentiles
from edge_mrcnn.report.footprint import Footprint


@dataclass(frozen=True, kw_only=True)
class Score:
    """Accuracy of one model on one data set."""

    box: ApSummary
    mask: ApSummary
    box_drop: Drop | None = None
    """None for the reference itself, as are the next three."""
    mask_drop: Drop | None = None
    agreement: Agreement | None = None
    pairing: Pairing | None = None
    box_costs: dict[str, ErrorCost] = field(default_factory=dict)
    """Error type, of `breakdown.KINDS` -> its cost."""
    mask_costs: dict[str, ErrorCost] = field(default_factory=dict)
    box_per_class: dict[str, float] = field(default_factory=dict)
    """Class name -> AP; nan if the data set has no object of it."""
    mask_per_class: dict[str, float] = field(default_factory=dict)

    def exceeds(self, limit: float) -> bool:
        """Whether box or mask AP dropped by more than allowed."""
        return any(drop is not None and drop.exceeds(limit) for drop in (self.box_drop, self.mask_drop))


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model's file, and how it ran."""

    name: str
    """File name, with its folder where two files share the name."""
    size_bytes: int
    """Size of all files of the model, in bytes."""
    sha256: str
    device: str
    """Device: "cpu" or the name of an accelerator."""
    runs_as: dict[str, str] = field(default_factory=dict)
    """What the runtime reports: threads, effective precision, delegate."""
    macs: int | None = None
    """Multiply-accumulates of one image with the maximum number of proposals and detections; None if unknown."""
    memory: Footprint | None = None
    """Memory of a process with only this model; None if it was not measured."""
    recorded: str = ""
    """Time of the run, ISO 8601, if it comes from a reference file."""
    packages: dict[str, str] = field(default_factory=dict)
    """Package versions of the run, if it comes from a reference file."""


@dataclass(frozen=True, kw_only=True)
class ReportRow(ModelFacts):
    """One model."""

    target: str
    """ "torch", "onnx", "openvino" or "tflite"."""
    precision: str
    """"fp32" or "int8", from the card."""
    input_size_hw: tuple[int, int]
    parameters: int
    latency: dict[str, Percentiles]
    """Stage -> milliseconds; "total" is the wall time from frame to detections."""
    scores: dict[str, Score]
    """Data set label -> accuracy; the first one is the main data set."""
    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Part of the model -> number of its INT8 and float layers; empty for a checkpoint."""
    card: dict[str, Any] = field(default_factory=dict)
    """The model card."""

    @property
    def is_pruned(self) -> bool:
        """Whether it has fewer channels than in its first training."""
        return bool(self.card.get("training", {}).get("pruned"))

    @property
    def variant(self) -> str:
        """Compression steps joined with " + ": "pruned", "sparse", "INT8", or "base" without any."""
        steps = []
        if self.is_pruned:
            steps.append("pruned")
        if self.card.get("training", {}).get("sparse"):
            steps.append("sparse")
        if self.precision != "fp32":
            steps.append(self.precision.upper())
        return " + ".join(steps) or "base"

    @property
    def score(self) -> Score:
        """Accuracy on the main data set."""
        return next(iter(self.scores.values()))

    @property
    def latency_ms(self) -> float:
        """Median from frame to detections."""
        return self.latency["total"].p50


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set."""

    label: str
    file: str
    """The annotation file."""
    sha256: str
    images: int
    objects: int
    """Number of annotated objects of the evaluated classes, without crowds."""
    classes: tuple[str, ...]
    """The evaluated classes."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The whole report without its pictures."""

    title: str
    created: str
    """ISO 8601 with time zone."""
    max_drop: float | None
    """Allowed drop in box and mask AP of the first data set, in [0, 1]; None for no check."""
    data_sets: tuple[DataSet, ...]
    rows: tuple[ReportRow, ...]
    """The models, the reference first."""
    device: dict[str, str]
    packages: dict[str, str]
    timing: dict[str, int]
    """How the latency was measured: images, rounds."""

    @property
    def reference(self) -> ReportRow:
        """The model that drops are measured against."""
        return self.rows[0]

    @property
    def candidates(self) -> tuple[ReportRow, ...]:
        """All but the reference."""
        return self.rows[1:]

    @property
    def has_usable_reference(self) -> bool:
        """Whether the reference is accurate enough for a drop to have a meaning."""
        score = self.reference.score
        return is_usable(score.box.ap, score.mask.ap)

    @property
    def too_lossy(self) -> tuple[ReportRow, ...]:
        """Candidates that exceed the allowed drop; none without an allowed drop, all with an unusable reference."""
        limit = self.max_drop
        if limit is None:
            return ()
        if not self.has_usable_reference:
            return self.candidates
        return tuple(row for row in self.candidates if row.score.exceeds(limit))

    @property
    def speed_base(self) -> ReportRow:
        """The model that speed-ups refer to: the reference, or, if it ran elsewhere, the first float model of the
        rest."""
        here = [row for row in self.rows if self._ran_beside(row, self.rows[-1])]
        for row in here:
            if row.precision == "fp32":
                return row
        return here[0]

    def speed_up(self, row: ReportRow) -> float | None:
        """Speed-up over `speed_base`; None on another device."""
        base = self.speed_base
        if not self._ran_beside(row, base):
            return None
        return base.latency_ms / row.latency_ms

    @staticmethod
    def _ran_beside(row: ReportRow, other: ReportRow) -> bool:
        """Whether two models were timed interleaved on one device."""
        return (row.device, row.recorded) == (other.device, other.recorded)


def without_nan(value: Any) -> Any:
    """A JSON-ready copy in which nan is None."""
    if isinstance(value, dict):
        return {str(key): without_nan(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(member) for member in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
