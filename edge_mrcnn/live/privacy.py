"""Covering of objects before a frame leaves the loop: --blur and --hide."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edge_mrcnn.live.classes import find_classes
from runtimes import Detections, ModelCard
from runtimes.anonymize import Anonymizer, AnonymizerConfig, Area, cover_areas
from runtimes.errors import UsageError
from runtimes.preprocess import resize_image
from runtimes.sources import Frame, ImageSource, Source
from runtimes.sources.pixels import Array, Pixels

DEFAULT_CONF = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PrivacySettings:
    """What to cover."""

    blur: tuple[str, ...] = ()
    """Classes that are covered by a mosaic."""
    hide: tuple[str, ...] = ()
    """Classes that are covered by plain grey."""
    conf: float | None = None
    """Score threshold of covered objects, in [0, 1]; if None, `DEFAULT_CONF` or the model's minimum score."""
    hold_s: float = 1.0
    """Seconds that an object stays covered after its last detection."""

    def plan(self, card: ModelCard) -> list[AnonymizerConfig]:
        """The covering for each class of a model.

        Raises:
            UsageError: If the model has no such class, or no detections with such low scores.
        """
        if not (self.blur or self.hide):
            return []
        conf = self._choose_conf(card)
        hidden = find_classes("--hide", self.hide, card.classes)
        blurred = find_classes("--blur", self.blur, card.classes) - hidden
        plans = [
            AnonymizerConfig(labels=blurred, method="mosaic", conf=conf, hold_s=self.hold_s),
            AnonymizerConfig(labels=hidden, method="fill", conf=conf, hold_s=self.hold_s),
        ]
        return [plan for plan in plans if plan.labels]

    def _choose_conf(self, card: ModelCard) -> float:
        lowest = card.score_threshold
        advice = f"the score threshold of this model is {lowest:g}; export it with --conf 0.05"
        if self.conf is not None and self.conf < lowest:
            raise UsageError(f"--blur-conf {self.conf:g}: {advice}")
        if self.conf is None and lowest > DEFAULT_CONF:
            logger.warning("--blur, --hide: %s, so that objects with low scores are covered too", advice)
        return max(DEFAULT_CONF, lowest) if self.conf is None else self.conf


class Privacy:
    """Covers objects in the frames of all sources; called only by the loop."""

    def __init__(self, settings: PrivacySettings, card: ModelCard, sources: Mapping[str, Source]) -> None:
        """Make one; arguments and errors as of `PrivacySettings.plan`.

        Args:
            settings: What to cover.
            card: The model.
            sources: Label -> source.
        """
        self._plans = settings.plan(card)
        self._sources = sources
        self._anonymizers: dict[str, list[Anonymizer]] = {}

    def protect(self, frame: Frame, found: Detections) -> Frame:
        """The frame that may leave the loop.

        Args:
            frame: The original frame; its pixels are overwritten in place if possible, when they are first used.
            found: All detections of the model.
        """
        if not self._plans:
            return frame
        # Images of a folder are independent of each other.
        is_video = not isinstance(self._sources.get(frame.source), ImageSource)
        if frame.source not in self._anonymizers or not is_video:
            self._anonymizers[frame.source] = [Anonymizer(plan) for plan in self._plans]
        areas: list[Area] = []
        for anonymizer in self._anonymizers[frame.source]:
            areas += anonymizer.follow(found, frame.time_s)
        # The planes that the model reads show everything, so they are not passed on.
        changes: dict[str, Any] = {"image": CoveredPixels(frame.pixels, areas), "small": None}
        return replace(frame, **changes)


class CoveredPixels(Pixels):
    """An image with covered areas, in every size that is requested."""

    def __init__(self, pixels: Pixels, areas: list[Area]) -> None:
        """

        Args:
            pixels: The original pixels; their RGB image is overwritten in place if possible.
            areas: Areas to cover.
        """
        super().__init__(pixels.size_hw)
        self.is_kept = pixels.is_kept
        self._pixels: Pixels | None = pixels
        self._areas = areas

    def _make_rgb(self) -> Array:
        assert self._pixels is not None
        image = self._pixels.rgb()
        return cover_areas(image if image.flags.writeable else image.copy(), self._areas)

    def _make_resized(self, size_hw: tuple[int, int]) -> Array:
        # Cover first and resize then: the areas have the size of the full image, and smaller cells would show more of
        # it.
        self._rgb = self._make_rgb()
        self._forget()
        if size_hw == self.size_hw:
            return self._rgb.copy()
        return resize_image(self._rgb, size_hw, size_hw[0] / self.size_hw[0])

    def _forget(self) -> None:
        self._pixels = None
