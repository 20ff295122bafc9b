"""Duplicate images: within one split they waste time; across splits they are leaks that raise the AP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from edge_mrcnn.data.coco import CocoImage
from edge_mrcnn.data.faults import Place
from edge_mrcnn.data.files import ImageFile, hash_file

MIN_CORRELATION = 0.985
"""Minimum correlation of two thumbnails of the same image, resized, compressed again, or a frame later."""
CHUNK = 4096
"""Number of images that are compared with all others at a time."""


@dataclass(frozen=True)
class CheckedImage:
    """An image of a split and its file."""

    split: str
    image: CocoImage
    file: ImageFile

    def place(self, detail: str = "") -> Place:
        """Its place, for messages."""
        return Place(self.split, self.image.id, self.image.path.name, detail=detail)


def find_copies(splits: Mapping[str, list[CheckedImage]]) -> Iterator[tuple[str, Place]]:
    """Files with equal content. Only files of equal length are read."""
    by_length: dict[int, list[CheckedImage]] = defaultdict(list)
    for pictures in splits.values():
        for picture in pictures:
            if picture.file.bytes:
                by_length[picture.file.bytes].append(picture)
    for candidates in by_length.values():
        if len(candidates) == 1:
            continue
        by_content: dict[str, list[CheckedImage]] = defaultdict(list)
        for picture in candidates:
            by_content[hash_file(picture.image.path)].append(picture)
        for same in by_content.values():
            yield from _copies(same)


def find_leaks(training: list[CheckedImage], validation: list[CheckedImage]) -> list[CheckedImage]:
    """Images of the validation split whose file is also in the training split. Only files of a length that occurs in
    both are read."""
    known: dict[int, list[CheckedImage]] = defaultdict(list)
    for picture in training:
        known[picture.file.bytes].append(picture)
    leaks = []
    for picture in validation:
        candidates = known.get(picture.file.bytes)
        if not candidates:
            continue
        content = hash_file(picture.image.path)
        if any(hash_file(candidate.image.path) == content for candidate in candidates):
            leaks.append(picture)
    return leaks


def _copies(same: list[CheckedImage]) -> Iterator[tuple[str, Place]]:
    """Each further copy, with the first one of its own split, or of an earlier split."""
    first_of: dict[str, CheckedImage] = {}
    for picture in same:
        own = first_of.setdefault(picture.split, picture)
        if own is not picture:
            yield "duplicate-picture", picture.place(f"the same as {own.place()}")
        elif picture is not same[0]:
            yield "leaked-picture", picture.place(f"the same as {same[0].place()}")


def find_similar(splits: Mapping[str, list[CheckedImage]]) -> Iterator[tuple[str, Place]]:
    """Images of one split that look like one of another: the most similar one of each, without exact copies."""
    for one, other in combinations(splits, 2):
        known, known_thumbs = _with_thumbs(splits[one])
        asked, asked_thumbs = _with_thumbs(splits[other])
        if not known or not asked:
            continue
        table = np.stack(known_thumbs).T
        for start in range(0, len(asked), CHUNK):
            part = asked[start : start + CHUNK]
            likeness = np.stack(asked_thumbs[start : start + CHUNK]) @ table
            for picture, best, value in zip(part, likeness.argmax(1), likeness.max(1), strict=True):
                match = known[best]
                if value >= MIN_CORRELATION and not _is_copy(picture, match):
                    yield "similar-picture", picture.place(f"{100 * value:.1f} % like {match.place()}")


def _with_thumbs(pictures: list[CheckedImage]) -> tuple[list[CheckedImage], list[np.ndarray]]:
    """The images that have a thumbnail, and the thumbnails."""
    with_thumbs, thumbs = [], []
    for picture in pictures:
        if picture.file.thumb is not None:
            with_thumbs.append(picture)
            thumbs.append(picture.file.thumb)
    return with_thumbs, thumbs


def _is_copy(one: CheckedImage, other: CheckedImage) -> bool:
    return one.file.bytes == other.file.bytes and hash_file(one.image.path) == hash_file(other.image.path)
