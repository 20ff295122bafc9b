"""What can be wrong with a data set, how bad it is, and what to do about it: for `data check` and training alike."""

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
    """"error": training refuses the data. "warning": look at it. "note": normal, but good to know."""
    title: str
    """What it is."""
    advice: str
    """What to do."""
    done: str = ""
    """What is done about it whenever the data is read, said in one line; empty where nothing is."""


_ERRORS = (
    Fault("malformed-image", "error", "image record that cannot be read", "write id, file_name, width and height"),
    Fault("malformed-category", "error", "category record that cannot be read", "write id and name"),
    Fault(
        "malformed-object", "error", "annotation that cannot be read",
        "write image_id, category_id, segmentation and bbox as COCO has them, or remove it",
    ),
    Fault(
        "broken-outline", "error", "outline with numbers that cannot be true",
        "draw it anew, or remove the object",
    ),
    Fault("duplicate-image-id", "error", "image id of two pictures", "number the images anew before files are merged"),
    Fault(
        "duplicate-category-id", "error", "category id of two names",
        "number the categories anew before files are merged",
    ),
    Fault("unknown-image", "error", "annotation of an image that is not listed", "list the image, or remove it"),
    Fault("unknown-category", "error", "annotation of a category that is not listed", "list it, or remove these"),
    Fault("missing-file", "error", "image file that is not there", "put the file there, or remove the image"),
    Fault("unreadable-file", "error", "image file that cannot be read", "write it anew, or remove the image"),
    Fault("truncated-file", "error", "image file that ends too early", "copy it anew, or remove the image"),
    Fault("size-mismatch", "error", "file of another size than annotated", "annotate the file that is there"),
    Fault(
        "exif-mismatch", "error", "file that is shown turned, but was annotated unturned",
        "remove its EXIF orientation (exiftool -Orientation= FILE); where its outlines fit the picture as it is shown, "
        "swap width and height instead",
    ),
    Fault("nothing-to-learn", "error", "no object with a usable outline", "annotate objects with outlines"),
    Fault("no-common-class", "error", "no category is common to the splits", "name the categories alike"),
    Fault(
        "leaked-picture", "error", "the same file in two splits",
        "keep it in one split: an AP measured on it says nothing",
    ),
)  # fmt: skip
_WARNINGS = (
    Fault("similar-picture", "warning", "nearly the same picture in two splits", "keep both in one split"),
    Fault("duplicate-picture", "warning", "the same file twice in a split", "keep one of them"),
    Fault("repeated-image", "warning", "image that is listed twice", "list it once", "read once"),
    Fault("duplicate-object-id", "warning", "annotation id that is given twice", "number the annotations anew"),
    Fault("duplicate-category-name", "warning", "category name that is given twice", "merge the categories"),
    Fault(
        "class-without-objects", "warning", "category without an object to learn",
        "add objects of it, or remove it", "left out",
    ),
    Fault("categories-differ", "warning", "category that only one split lists", "list the same ones in each split"),
    Fault(
        "mostly-crowd", "warning", "category of which a large part are crowd regions",
        "where they are single objects, which brush tools mark so, give --learn-crowds",
        "not learnt without --learn-crowds",
    ),
    Fault(
        "nothing-to-validate", "warning", "no object to validate on",
        "annotate some: there is no AP, and the newest weights count as the best",
    ),
    Fault(
        "no-outline", "warning", "object without an outline", "draw it, or remove the object",
        "its mask is not learnt",
    ),
    Fault("empty-outline", "warning", "object whose outline covers no pixel", "redraw it", "left out"),
    Fault(
        "unusual-outline", "warning", "outline that is not a list of lists of numbers",
        "write it as COCO does, or with `edge-mrcnn data check --fix`", "read as it is meant",
    ),
    Fault(
        "normalised-outline", "warning", "outline in shares of the picture instead of pixels",
        "write pixels, or let `edge-mrcnn data check --fix` do it", "multiplied by width and height",
    ),
    Fault("outline-outside", "warning", "outline that leaves the image", "clip it; what is outside is not used"),
    Fault("box-outside", "warning", "box that leaves the image", "clip it: AP of boxes is measured with it"),
    Fault(
        "box-without-area", "warning", "box that is not finite, far away, or of no width or height",
        "take the box of the outline", "taken from the outline",
    ),
    Fault(
        "box-xyxy", "warning", "box as x0 y0 x1 y1 instead of x y width height",
        "write width and height, or let `edge-mrcnn data check --fix` do it", "read as x0 y0 x1 y1",
    ),
    Fault("box-off-outline", "warning", "box that is not that of the outline", "take the box of the outline"),
    Fault(
        "boxes-elsewhere", "warning", "box that is not that of its outline, as most are not",
        "write x, y of the upper left corner, width and height in pixels, or let `edge-mrcnn data check --fix` do it",
        "taken from the outline",
    ),
    Fault(
        "area-off-outline", "warning", "area that is not that of the outline",
        "write the outline's, or let `edge-mrcnn data check --fix` do it", "taken from the outline",
    ),
    Fault("duplicate-object", "warning", "object that is annotated twice", "keep one of them"),
    Fault(
        "swapped-size", "warning", "width and height of the file as stored, but outlines of the picture as shown",
        "swap width and height, or let `edge-mrcnn data check --fix` do it; leave the EXIF orientation", "swapped",
    ),
    Fault("no-size", "warning", "image without width and height", "write them", "read from the file"),
    Fault(
        "deep-file", "warning", "file of 16 bits",
        "scale it to all of them where it is dark, as 12 bits in 16 are", "its upper 8 bits are read",
    ),
    Fault(
        "exif-unclear", "warning", "file that is shown turned or mirrored, of a size that fits both ways",
        "look at its outlines; where they are off, remove its EXIF orientation",
    ),
)  # fmt: skip
_NOTES = (
    Fault("exif-turned", "note", "file that is shown turned, and was annotated so", "other tools may differ"),
    Fault(
        "other-file-name", "note", "file that has another name than annotated",
        "nothing, or let `edge-mrcnn data check --fix` write its name", "found by what its name is made of",
    ),
    Fault("root-category", "note", "category that stands for the background or for all others", "nothing", "left out"),
    Fault("tiny-object", "note", "object of under 16 pixels at the input size", "train at a larger --imgsz"),
    Fault("rare-class", "note", "category with under 20 objects", "annotate more of it, if it matters"),
    Fault("image-without-objects", "note", "image without an object", "nothing, if that is so: it teaches too"),
    Fault("crowd", "note", "crowd region", "nothing: it is not learnt and not counted against the model"),
    Fault("class-not-validated", "note", "category without an object to validate on", "add some, if it matters"),
)  # fmt: skip

FAULTS = {fault.name: fault for fault in (*_ERRORS, *_WARNINGS, *_NOTES)}
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
