"""Faults of a data set, with severity and advice, for `data check` and training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From faults that must be fixed to those that are only reported."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    name: str
    """Short name with hyphens, the same in every output."""
    severity: Severity
    """"error": training refuses the data. "warning": look at it. "note": normal, but good to know."""
    title: str
    """Description of the fault."""
    advice: str
    """How to fix it."""
    done: str = ""
    """How reading the data handles it, in a few words; empty if nothing is done."""


_ERRORS = (
    Fault("malformed-image", "error", "image record that cannot be read", "write id, file_name, width and height"),
    Fault("malformed-category", "error", "category record that cannot be read", "write id and name"),
    Fault(
        "malformed-object", "error", "annotation that cannot be read",
        "write image_id, category_id, segmentation and bbox as COCO has them, or remove it",
    ),
    Fault(
        "broken-outline", "error", "outline with impossible numbers",
        "redraw it, or remove the object",
    ),
    Fault("duplicate-image-id", "error", "image id used by two images", "renumber the images before merging files"),
    Fault(
        "duplicate-category-id", "error", "category id used by two names",
        "renumber the categories before merging files",
    ),
    Fault("unknown-image", "error", "annotation of an image that is not listed", "list the image, or remove it"),
    Fault(
        "unknown-category", "error", "annotation of a category that is not listed",
        "list the category, or remove these annotations",
    ),
    Fault("missing-file", "error", "missing image file", "add the file, or remove the image"),
    Fault("unreadable-file", "error", "unreadable image file", "save it again, or remove the image"),
    Fault("truncated-file", "error", "truncated image file", "copy it again, or remove the image"),
    Fault(
        "size-mismatch", "error", "image file of another size than annotated",
        "annotate this file, or restore the original one",
    ),
    Fault(
        "exif-mismatch", "error", "image rotated by its EXIF orientation, but annotated without rotation",
        "remove its EXIF orientation (exiftool -Orientation= FILE); if the outlines fit the rotated image, swap width "
        "and height instead",
    ),
    Fault("nothing-to-learn", "error", "no object with a usable outline", "annotate objects with outlines"),
    Fault("no-common-class", "error", "no category in common between the splits", "use the same category names"),
    Fault(
        "leaked-picture", "error", "the same file in two splits",
        "keep it in one split; otherwise the measured AP has no meaning",
    ),
)  # fmt: skip
_WARNINGS = (
    Fault("similar-picture", "warning", "near-duplicate images in two splits", "keep both in one split"),
    Fault("duplicate-picture", "warning", "the same file twice in a split", "keep one of them"),
    Fault("repeated-image", "warning", "image that is listed twice", "list it once", "read once"),
    Fault("duplicate-object-id", "warning", "duplicate annotation id", "renumber the annotations"),
    Fault("duplicate-category-name", "warning", "duplicate category name", "merge the categories"),
    Fault(
        "class-without-objects", "warning", "category without training objects",
        "add objects of it, or remove it", "left out",
    ),
    Fault(
        "categories-differ", "warning", "category listed by only one split",
        "list the same categories in all splits",
    ),
    Fault(
        "mostly-crowd", "warning", "category with many crowd regions",
        "if they are single objects, which brush tools mark this way, use --learn-crowds",
        "not trained on without --learn-crowds",
    ),
    Fault(
        "nothing-to-validate", "warning", "no validation objects",
        "annotate some; without them there is no AP, and the last weights are saved as the best",
    ),
    Fault(
        "no-outline", "warning", "object without an outline", "draw one, or remove the object",
        "trains boxes only",
    ),
    Fault("empty-outline", "warning", "object whose outline covers no pixel", "redraw it", "left out"),
    Fault(
        "unusual-outline", "warning", "outline that is not a list of lists of numbers",
        "write it as in COCO, or use `edge-mrcnn data check --fix`", "converted",
    ),
    Fault(
        "normalised-outline", "warning", "outline in shares of the image instead of pixels",
        "write pixels, or use `edge-mrcnn data check --fix`", "multiplied by width and height",
    ),
    Fault(
        "outline-outside", "warning", "outline that extends outside the image",
        "clip it; the part outside is not used",
    ),
    Fault("box-outside", "warning", "box that extends outside the image", "clip it; it is used to measure box AP"),
    Fault(
        "box-without-area", "warning", "box without area, not finite, or far outside the image",
        "use the bounding box of the outline", "taken from the outline",
    ),
    Fault(
        "box-xyxy", "warning", "box as x0 y0 x1 y1 instead of x y width height",
        "write width and height, or use `edge-mrcnn data check --fix`", "read as x0 y0 x1 y1",
    ),
    Fault("box-off-outline", "warning", "box that does not fit its outline", "use the bounding box of the outline"),
    Fault(
        "boxes-elsewhere", "warning", "box that does not fit its outline, as in most objects",
        "write x, y of the upper left corner, width and height in pixels, or use `edge-mrcnn data check --fix`",
        "taken from the outline",
    ),
    Fault(
        "area-off-outline", "warning", "area that does not fit its outline",
        "write the outline's area, or use `edge-mrcnn data check --fix`", "taken from the outline",
    ),
    Fault("duplicate-object", "warning", "duplicate object", "keep one of them"),
    Fault(
        "swapped-size", "warning", "width and height without EXIF rotation, but outlines with it",
        "swap width and height, or use `edge-mrcnn data check --fix`; keep the EXIF orientation", "swapped",
    ),
    Fault("no-size", "warning", "image without width and height", "write them", "read from the file"),
    Fault(
        "deep-file", "warning", "16-bit image file",
        "if it is dark, such as 12 bits stored in 16, scale it to the full range", "the upper 8 bits are used",
    ),
    Fault(
        "exif-unclear", "warning", "EXIF orientation that the image size cannot confirm",
        "check its outlines; if they are off, remove its EXIF orientation",
    ),
)  # fmt: skip
_NOTES = (
    Fault(
        "exif-turned", "note", "image rotated by its EXIF orientation, and annotated with rotation",
        "other tools may ignore the rotation",
    ),
    Fault(
        "other-file-name", "note", "file name that differs from the annotation",
        "nothing, or use `edge-mrcnn data check --fix` to write its name", "found by a similar name",
    ),
    Fault("root-category", "note", "category for the background or for all other categories", "nothing", "left out"),
    Fault("tiny-object", "note", "object smaller than 16 pixels at the input size", "train with a larger --imgsz"),
    Fault("rare-class", "note", "category with fewer than 20 objects", "annotate more, if it matters"),
    Fault(
        "image-without-objects", "note", "image without objects",
        "nothing, if it shows none; it trains against false positives",
    ),
    Fault("crowd", "note", "crowd region", "nothing; it is ignored in training and evaluation"),
    Fault("class-not-validated", "note", "category without validation objects", "add some, if it matters"),
)  # fmt: skip

FAULTS = {fault.name: fault for fault in (*_ERRORS, *_WARNINGS, *_NOTES)}
"""Name -> fault, worst first."""


@dataclass(frozen=True)
class Place:
    """Place of a fault. Fields that do not apply are None or empty."""

    split: str
    image_id: int | str | None = None
    file: str = ""
    object_id: int | str | None = None
    detail: str = ""
    """Details, such as both sizes of a mismatch."""

    def __str__(self) -> str:
        parts = [
            "" if self.image_id is None else f"image {self.image_id}",
            self.file,
            "" if self.object_id is None else f"object {self.object_id}",
            self.detail,
        ]
        return f"{self.split}: " + ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Finding:
    """A kind of fault, and all its places."""

    fault: Fault
    places: tuple[Place, ...]


class Findings:
    """Collects places by fault."""

    def __init__(self) -> None:
        self._places: dict[str, list[Place]] = {}

    def add(self, name: str, *places: Place) -> None:
        """Record a fault by its name and place."""
        assert name in FAULTS, name
        self._places.setdefault(name, []).extend(places)

    def extend(self, found: Iterable[tuple[str, Place]]) -> None:
        """Record several."""
        for name, place in found:
            self.add(name, place)

    def sorted(self) -> tuple[Finding, ...]:
        """The kinds of faults found, worst first."""
        names = sorted(FAULTS, key=lambda name: SEVERITIES.index(FAULTS[name].severity))
        return tuple(Finding(FAULTS[name], tuple(self._places[name])) for name in names if name in self._places)
