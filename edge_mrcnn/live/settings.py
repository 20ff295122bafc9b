"""Settings of the live loop and of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edge_mrcnn.live.option_spec import option, options_of
from edge_mrcnn.live.outputs.table import OUTPUTS
from edge_mrcnn.live.outputs.text_file import writes_to_standard_output
from edge_mrcnn.live.privacy import PrivacySettings
from edge_mrcnn.live.snapshots import SnapshotStyle
from runtimes.counting import Line, Zone, parse_line, parse_zone
from runtimes.errors import UsageError

CLASS_LISTS = ("classes", "exclude", "blur", "hide")
"""Fields that hold class names."""


@dataclass(frozen=True, kw_only=True)
class LiveSettings:
    """Settings of the loop itself and of each output; everything is off by default."""

    conf: float = option(0.5, "Score threshold.", kind="number", low=0, high=1, shows_default=True)
    """In [0, 1]; the page can change it."""
    is_tracked: bool = option(
        False, "Track objects: give each the same number in all frames.", kind="switch", name="track"
    )
    lines: tuple[Line, ...] = option(
        (), "Count objects that cross a line; points as shares of the image: 0,0.5,1,0.5.",
        name="line", metavar="[NAME=]X0,Y0,X1,Y1",
    )  # fmt: skip
    zones: tuple[Zone, ...] = option(
        (),
        "Count objects in a polygon; points as shares of the image.",
        name="zone",
        metavar="[NAME=]'X,Y X,Y X,Y ...'",
    )
    classes: tuple[str, ...] = option((), "Keep only these classes.", metavar="NAME,...")
    exclude: tuple[str, ...] = option((), "Leave out these classes.", metavar="NAME,...")
    blur: tuple[str, ...] = option((), "Blur objects of these classes in all outputs.", metavar="NAME,...")
    hide: tuple[str, ...] = option((), "Cover objects of these classes with plain grey instead.", metavar="NAME,...")
    blur_conf: float | None = option(
        None, "Score threshold of --blur and --hide [default: 0.1].", kind="number", low=0, high=1
    )
    blur_hold: float = option(
        1.0, "Seconds that an object stays covered after its last detection.", kind="number", low=0, shows_default=True
    )
    pixel_size: float | None = option(
        None, "Side of a pixel in mm at the objects; adds areas in mm2.", kind="number", low=0, is_above=True,
        metavar="MM",
    )  # fmt: skip
    snapshot: Literal["drawn", "plain"] | None = option(
        None,
        "Send images with the messages of --mqtt and --webhook: with masks drawn, or plain.",
        kind="choice",
        choices=("drawn", "plain"),
    )
    snapshot_size: int = option(
        1280, "Maximum length of the longer side of these images, in pixels.", kind="whole", low=16, shows_default=True
    )
    spares_still: bool = option(
        False, "Skip inference while nothing moves, and keep the last detections.", kind="switch", name="still"
    )
    overwrite: bool = option(
        False, "Overwrite existing output files, instead of adding a number to their names.", kind="switch"
    )
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """Name of an output in `OUTPUTS` -> its settings; the others keep their defaults, which are off."""

    def __post_init__(self) -> None:
        names = [line.name for line in self.lines] + [zone.name for zone in self.zones]
        if len(set(names)) < len(names):
            raise UsageError(f"--line, --zone: expected different names, got {', '.join(names)}")
        if self.blur_conf is not None and not (self.blur or self.hide):
            raise UsageError("--blur-conf needs --blur or --hide with classes, such as --blur person")

        if self.spares_still and (self.blur or self.hide):
            # Detections that missed somebody would stay for as long as nothing moves.
            raise UsageError("--still cannot be combined with --blur or --hide, which need inference on every frame")

    @property
    def owns_standard_output(self) -> bool:
        """Whether an output writes to standard output, so that nothing else may."""
        json, coco = self.outputs.get("json"), self.outputs.get("coco")
        return writes_to_standard_output({"--json": json and json.json, "--coco": coco and coco.coco})

    @property
    def snapshot_style(self) -> SnapshotStyle | None:
        """Style of the images of messages."""
        return None if self.snapshot is None else SnapshotStyle(kind=self.snapshot, max_side=self.snapshot_size)

    @property
    def privacy(self) -> PrivacySettings:
        """What is covered before a frame leaves the loop."""
        return PrivacySettings(blur=self.blur, hide=self.hide, conf=self.blur_conf, hold_s=self.blur_hold)


def make_settings(**values: Any) -> LiveSettings:
    """Make settings from the names of all their fields, such as `make_settings(web=":8080", json="log.jsonl")`.

    Args:
        **values: Fields of `LiveSettings` and of the settings of every output; lines and zones may be texts.

    Raises:
        UsageError: If a name is unknown, or a value is not valid.
    """
    unknown = sorted(set(values) - field_names())
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: no such option; the options are {', '.join(sorted(field_names()))}")
    outputs = {name: _fill(output.settings_type, values) for name, output in OUTPUTS.items()}
    own = {name: values[name] for name, _, _ in options_of(LiveSettings) if name in values}
    if own.get("snapshot") and not (values.get("mqtt") or values.get("webhook")):
        raise UsageError("--snapshot needs --mqtt or --webhook, whose messages carry the images")
    for name in CLASS_LISTS:
        own[name] = _as_texts(own.get(name, ()))
    own["lines"] = _parse_places(own.get("lines", ()), parse_line, "line")
    own["zones"] = _parse_places(own.get("zones", ()), parse_zone, "zone")
    return LiveSettings(outputs=outputs, **own)


def all_settings() -> list[type]:
    """Settings of the loop, and those of the outputs in their order."""
    return [LiveSettings, *(output.settings_type for output in OUTPUTS.values())]


def field_names() -> set[str]:
    """Names that `make_settings` takes."""
    return {name for settings_type in all_settings() for name, _, _ in options_of(settings_type)}


def _fill(settings_type: type, values: Mapping[str, Any]) -> Any:
    """Settings of one output from those of all."""
    own = {}
    for name, _, spec in options_of(settings_type):
        value = values.get(name)
        if value is None:
            continue
        own[name] = Path(value) if spec.kind in ("path", "file") else value
    return settings_type(**own)


def _as_texts(given: str | Iterable[str]) -> tuple[str, ...]:
    """One text, or several."""
    return (given,) if isinstance(given, str) else tuple(given)


def _parse_places(places: Iterable[Any], parse: Callable[[str, str], Any], kind: str) -> tuple[Any, ...]:
    if isinstance(places, str):
        places = [places]
    return tuple(
        parse(place, f"{kind} {number}") if isinstance(place, str) else place for number, place in enumerate(places, 1)
    )
