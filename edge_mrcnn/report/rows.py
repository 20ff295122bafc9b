"""What a report says, as plain records; how it looks is `render`'s affair.

AP and drops are in [0, 1] here and in the JSON; the tables show points, 100 times as much.
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
    """One model on one data set."""

    box: ApSummary
    mask: ApSummary
    box_drop: Drop | None = None
    """None for the reference itself, as are the three below."""
    mask_drop: Drop | None = None
    agreement: Agreement | None = None
    pairing: Pairing | None = None
    box_costs: dict[str, ErrorCost] = field(default_factory=dict)
    """Kind of mistake, of `breakdown.KINDS`, to what it costs."""
    mask_costs: dict[str, ErrorCost] = field(default_factory=dict)
    box_per_class: dict[str, float] = field(default_factory=dict)
    """Class name to AP; nan where the data set shows none."""
    mask_per_class: dict[str, float] = field(default_factory=dict)

    def exceeds(self, limit: float) -> bool:
        """Whether box or mask AP lost more than allowed."""
        return any(drop is not None and drop.exceeds(limit) for drop in (self.box_drop, self.mask_drop))


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model's file, and how it ran."""

    name: str
    """File name, with its folder where two files share the name."""
    size_bytes: int
    """All files of the model together."""
    sha256: str
    device: str
    """What it ran on: "cpu" or the name of an accelerator."""
    runs_as: dict[str, str] = field(default_factory=dict)
    """What the runtime says of itself: threads, precision in use, delegate."""
    macs: int | None = None
    """Multiply-accumulates of one image with all proposals and detections present; None if nobody counted them."""
    memory: Footprint | None = None
    """What a process with nothing but this model takes; None if it was not measured."""
    recorded: str = ""
    """When it ran, ISO 8601, if that was not now but comes from a reference file."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions there, if it comes from a reference file."""


@dataclass(frozen=True, kw_only=True)
class ReportRow(ModelFacts):
    """One model."""

    target: str
    """ "torch", "onnx", "openvino" or "tflite"."""
    precision: str
    """ "fp32" or "int8", as the card says."""
    input_size_hw: tuple[int, int]
    parameters: int
    latency: dict[str, Percentiles]
    """Stage to milliseconds; "total" is the wall time from frame to detections."""
    scores: dict[str, Score]
    """Data set label to accuracy; the first is the one that counts."""
    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Part of the net to its layers that compute in integers, and in floating point; empty for a checkpoint."""
    card: dict[str, Any] = field(default_factory=dict)
    """The model card."""

    @property
    def is_pruned(self) -> bool:
        """Whether it has fewer channels than it was first trained with."""
        return bool(self.card.get("training", {}).get("pruned"))

    @property
    def variant(self) -> str:
        """How it was compressed: "base", or what was done: "pruned", "sparse", "INT8", joined with " + "."""
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
        """Accuracy on the data set that counts."""
        return next(iter(self.scores.values()))

    @property
    def latency_ms(self) -> float:
        """Median from frame to detections."""
        return self.latency["total"].p50


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What was measured on."""

    label: str
    file: str
    """The annotation file."""
    sha256: str
    images: int
    objects: int
    """Annotated objects of the evaluated classes, crowds left out."""
    classes: tuple[str, ...]
    """The evaluated classes."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The whole report but its pictures."""

    title: str
    created: str
    """ISO 8601 with time zone."""
    max_drop: float | None
    """Gate on box and mask AP of the first data set, in [0, 1]; None without one."""
    data_sets: tuple[DataSet, ...]
    rows: tuple[ReportRow, ...]
    """The reference first."""
    device: dict[str, str]
    packages: dict[str, str]
    timing: dict[str, int]
    """How the latency was taken: images, rounds."""

    @property
    def reference(self) -> ReportRow:
        """The model that drops are counted from."""
        return self.rows[0]

    @property
    def candidates(self) -> tuple[ReportRow, ...]:
        """All but the reference."""
        return self.rows[1:]

    @property
    def has_usable_reference(self) -> bool:
        """Whether the reference finds enough for a drop from it to mean anything."""
        score = self.reference.score
        return is_usable(score.box.ap, score.mask.ap)

    @property
    def too_lossy(self) -> tuple[ReportRow, ...]:
        """Candidates that fail the gate; none without a gate, all with a reference that finds nothing."""
        limit = self.max_drop
        if limit is None:
            return ()
        if not self.has_usable_reference:
            return self.candidates
        return tuple(row for row in self.candidates if row.score.exceeds(limit))

    @property
    def speed_base(self) -> ReportRow:
        """Speed-ups are counted from the reference, or, if it ran elsewhere, from the first float model of the rest."""
        here = [row for row in self.rows if self._ran_beside(row, self.rows[-1])]
        for row in here:
            if row.precision == "fp32":
                return row
        return here[0]

    def speed_up(self, row: ReportRow) -> float | None:
        """How many times as fast as `speed_base`; None on another device."""
        base = self.speed_base
        if not self._ran_beside(row, base):
            return None
        return base.latency_ms / row.latency_ms

    @staticmethod
    def _ran_beside(row: ReportRow, other: ReportRow) -> bool:
        """Whether two models were timed in turn on one device."""
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
