"""What can be wrong with a data set, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From what must be fixed to what is only said."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    name: str
    """Short name with hyphens, the same in every output."""
    severity: Severity
    """"error": training fails or its figures are wrong. "warning": look at it. "note": normal, but good to know."""
    title: str
    """What it is."""
    advice: str
    """What to do."""


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("malformed-image", "error", "image record that cannot be read", "write id, file_name, width and height"),
        Fault("malformed-category", "error", "category record that cannot be read", "write id and name"),
        Fault(
            "malformed-object", "error", "annotation that cannot be read",
            "write image_id, category_id, segmentation and bbox as COCO has them, or remove it",
        ),
        Fault("duplicate-image-id", "error", "image id that is given twice", "number the images anew"),
        Fault("duplicate-category-id", "error", "category id that is given twice", "number the categories anew"),
        Fault("unknown-image", "error", "annotation of an image that is not listed", "list the image, or remove it"),
        Fault("unknown-category", "error", "annotation of a category that is not listed", "list it, or remove these"),
        Fault("missing-file", "error", "image file that is not there", "put the file there, or remove the image"),
        Fault("unreadable-file", "error", "image file that cannot be read", "write it anew, or remove the image"),
        Fault("truncated-file", "error", "image file that ends too early", "copy it anew, or remove the image"),
        Fault("size-mismatch", "error", "file of another size than annotated", "annotate the file that is there"),
        Fault(
            "exif-mismatch", "error", "file that is shown turned, but was annotated unturned",
            "remove its EXIF orientation (exiftool -Orientation= FILE)",
        ),
        Fault("nothing-to-learn", "error", "no object with a usable outline", "annotate objects with outlines"),
        Fault("class-without-objects", "error", "category without an object", "add objects of it, or remove it"),
        Fault("no-common-class", "error", "no category is common to the splits", "name the categories alike"),
        Fault(
            "leaked-picture", "error", "the same file in two splits",
            "keep it in one split: an AP measured on it says nothing",
        ),
        Fault("similar-picture", "warning", "nearly the same picture in two splits", "keep both in one split"),
        Fault("duplicate-picture", "warning", "the same file twice in a split", "keep one of them"),
        Fault("duplicate-object-id", "warning", "annotation id that is given twice", "number the annotations anew"),
        Fault("duplicate-category-name", "warning", "category name that is given twice", "merge the categories"),
        Fault("categories-differ", "warning", "category that only one split lists", "list the same ones in each split"),
        Fault("no-outline", "warning", "object without an outline, which is left out", "draw it, or remove the object"),
        Fault("empty-outline", "warning", "object whose outline covers no pixel, which is left out", "redraw it"),
        Fault("outline-outside", "warning", "outline that leaves the image", "clip it; what is outside is not used"),
        Fault("box-outside", "warning", "box that leaves the image", "clip it: AP of boxes is measured with it"),
        Fault("box-without-area", "warning", "box of no width or height", "take the box of the outline"),
        Fault("box-off-outline", "warning", "box that is not that of the outline", "take the box of the outline"),
        Fault("duplicate-object", "warning", "object that is annotated twice", "keep one of them"),
        Fault(
            "exif-unclear", "warning", "file that is shown turned or mirrored, of a size that fits both ways",
            "look at its outlines; where they are off, remove its EXIF orientation",
        ),
        Fault("exif-turned", "note", "file that is shown turned, and was annotated so", "other tools may differ"),
        Fault("tiny-object", "note", "object of under 16 pixels at the input size", "train at a larger --imgsz"),
        Fault("rare-class", "note", "category with under 20 objects", "annotate more of it, if it matters"),
        Fault("image-without-objects", "note", "image without an object", "nothing, if that is so: it teaches too"),
        Fault("crowd", "note", "crowd region", "nothing: it is not learnt and not counted against the model"),
        Fault("class-not-validated", "note", "category without an object to validate on", "add some, if it matters"),
    )
}  # fmt: skip
"""All kinds by name, worst first."""


@dataclass(frozen=True)
class Place:
    """Where a fault is. What does not apply is None or empty."""

    split: str
    image_id: int | str | None = None
    file: str = ""
    object_id: int | str | None = None
    detail: str = ""
    """The figures, such as both sizes of a mismatch."""

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
    """A kind of fault, and everywhere it is."""

    fault: Fault
    places: tuple[Place, ...]


class Findings:
    """Collects places by fault."""

    def __init__(self) -> None:
        self._places: dict[str, list[Place]] = {}

    def add(self, name: str, *places: Place) -> None:
        """Note where the fault of this name is."""
        assert name in FAULTS, name
        self._places.setdefault(name, []).extend(places)

    def extend(self, found: Iterable[tuple[str, Place]]) -> None:
        """Note several."""
        for name, place in found:
            self.add(name, place)

    def sorted(self) -> tuple[Finding, ...]:
        """The kinds that were found, worst first."""
        names = sorted(FAULTS, key=lambda name: SEVERITIES.index(FAULTS[name].severity))
        return tuple(Finding(FAULTS[name], tuple(self._places[name])) for name in names if name in self._places)
