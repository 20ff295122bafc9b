"""Pascal VOC masks: `ImageSets/Segmentation/<split>.txt`, `JPEGImages/`, `SegmentationObject/`, `SegmentationClass/`.

Source: the development kit of VOC 2012, section 4. Each object has a colour of its own in one mask and that of its
class in the other, with a border of void around it. CVAT's "Segmentation mask" export adds `labelmap.txt`, the colours
of classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_mrcnn.data.files import read_lines
from edge_mrcnn.data.layouts import WHOLE, SplitSource, find_child, names_of
from edge_mrcnn.data.layouts.pictures import SUFFIXES, category_rows, image_row
from runtimes.errors import DataError

TITLE = "Pascal VOC masks (ImageSets/Segmentation, SegmentationObject/)"
LISTS = Path("ImageSets", "Segmentation")
NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOID = (224, 224, 192)

Color = tuple[int, int, int]


def find(root: Path, split: str) -> SplitSource | None:
    """The split of this name; `root` may also be the folder around VOC2012."""
    names = ("default",) if split == WHOLE else names_of(split)
    lists = tuple(f"{name}.txt" for name in names)
    years = [*sorted(root.glob("VOC*")), *sorted(root.glob("VOCdevkit/VOC*"))]
    for folder in (root, *years):
        path = find_child(folder / LISTS, lists)
        if path is not None and (folder / "SegmentationObject").is_dir():
            return SplitSource(TITLE, path, folder / "JPEGImages", folder, read_list)
    return None


def read_list(source: SplitSource) -> dict[str, Any]:
    """COCO's tables of the images of a list."""
    colors = class_colors(source.root)
    names = list(colors.values())
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    stems = [line.split()[0] for line in read_lines(source.path)]
    for number, stem in enumerate(stems, start=1):
        images.append(image_row(number, _picture_of(source.folder, stem)))
        for name, outline in read_objects(source.root, stem, colors):
            row = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": names.index(name) + 1,
                "segmentation": outline,
            }
            annotations.append(row)
    return {"images": images, "annotations": annotations, "categories": category_rows(names)}


def _picture_of(folder: Path, stem: str) -> Path:
    for path in sorted(folder.glob(f"{stem}.*")):
        if path.suffix.casefold() in SUFFIXES:
            return path
    return folder / f"{stem}.jpg"


def class_colors(root: Path) -> dict[Color, str]:
    """RGB of each class in the masks -> its name."""
    labels = root / "labelmap.txt"
    if not labels.is_file():
        return {palette_color(index): name for index, name in enumerate(NAMES, start=1)}
    colors: dict[Color, str] = {}
    for line in read_lines(labels):
        name, _, rest = line.partition(":")
        values = rest.split(":")[0].split(",")
        if line.startswith("#") or len(values) != 3:
            continue
        if name.casefold() not in ("background", "void"):
            red, green, blue = map(int, values)
            colors[red, green, blue] = name
    return colors


def palette_color(index: int) -> Color:
    """RGB of an index in VOC's palette: its bits, the lowest three to the highest of the channels, and so on."""
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            bit = index >> (3 * place + channel) & 1
            channels[channel] |= bit << (7 - place)
    return channels[0], channels[1], channels[2]


def read_objects(root: Path, stem: str, colors: dict[Color, str]) -> list[tuple[str, dict[str, Any]]]:
    """Class name and run lengths of each object of an image.

    Raises:
        DataError: If a mask cannot be read, or an object has an unknown class colour.
    """
    from pycocotools import mask as rle

    objects = _read_codes(root / "SegmentationObject" / f"{stem}.png")
    classes = _read_codes(root / "SegmentationClass" / f"{stem}.png")
    found = []
    for code in np.unique(objects):
        if code in (0, _code(VOID)):
            continue
        mask = objects == code
        values, counts = np.unique(classes[mask], return_counts=True)
        color = _color(int(values[counts.argmax()]))  # the colour of most of its pixels
        name = colors.get(color)
        if name is None:
            red, green, blue = color
            raise DataError(
                f"{root}: unknown class colour of an object in SegmentationClass/{stem}.png: {red},{green},{blue}"
            )
        outline = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        found.append((name, outline))
    return found


def _read_codes(path: Path) -> np.ndarray:
    """The colours of a mask (H, W) as numbers."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise DataError(f"{path}: expected a mask, but the file is missing or unreadable")
    blue, green, red = np.moveaxis(pixels.astype(np.int64), 2, 0)
    codes: np.ndarray = red << 16 | green << 8 | blue
    return codes


def _code(color: Color) -> int:
    """A colour as a number."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def _color(code: int) -> Color:
    """The colour of a number."""
    return code >> 16 & 255, code >> 8 & 255, code & 255
