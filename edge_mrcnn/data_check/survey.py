"""The whole check of a data set: its records, files, splits, and statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_mrcnn.data.copies import CheckedImage, find_copies, find_similar
from edge_mrcnn.data.faults import Finding, Findings, Place
from edge_mrcnn.data.files import inspect_files
from edge_mrcnn.data.layouts import SplitSource
from edge_mrcnn.data.loading import find_source, has_split
from edge_mrcnn.data.outlines import MIN_VISIBLE_PX
from edge_mrcnn.data.plausibility import clean_records, count_objects
from edge_mrcnn.data.records import Records, read_records
from runtimes.errors import UsageError
from runtimes.progress import Progress, silent

RARE = 20
"""A class with fewer objects is reported."""
SIMILAR_LIMIT = 20_000
"""Maximum number of images for which near-duplicates are searched by default."""


@dataclass(frozen=True)
class SplitSummary:
    """Statistics of one split."""

    name: str
    path: Path
    images: int
    empty_images: int
    objects: int
    """Number of objects with a usable outline, without crowds."""
    crowds: int
    classes: dict[str, int]
    """Objects of each category, the most frequent first."""
    sides_px: list[float] = field(repr=False)
    """Square root of each object's area at the input size, in pixels."""
    per_image: Counter[int]
    """Number of objects -> number of images with that many."""
    sizes: Counter[tuple[int, int]]
    """(width, height) -> number of images."""


@dataclass(frozen=True)
class DataCheck:
    """The result of the check."""

    findings: tuple[Finding, ...]
    """Findings, worst first."""
    summaries: tuple[SplitSummary, ...]
    records: tuple[Records, ...] = field(repr=False)
    """Records of each split, for its images."""
    image_size_hw: tuple[int, int]
    """Input size for the object sizes, in pixels."""
    compared: bool
    """Whether near-duplicates were searched."""

    def of(self, severity: str) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(f for f in self.findings if f.fault.severity == severity)

    def count(self, severity: str) -> int:
        """Number of places of one severity."""
        return sum(len(f.places) for f in self.of(severity))


def check_data(
    data: str | Path,
    validation: str | Path | None = None,
    *,
    image_size_hw: tuple[int, int] = (320, 320),
    decode: bool = False,
    similar: bool | None = None,
    learn_crowds: bool = False,
    progress: Progress = silent,
) -> DataCheck:
    """Check a data set for faults.

    Args:
        data: COCO JSON, or a folder in one of `layouts.LAYOUTS`; for a folder, both splits are checked.
        validation: The same, for another split.
        image_size_hw: Input size of the model, in pixels.
        decode: Decode every image, instead of reading only its header and last bytes.
        similar: Search the splits for near-duplicates; None means for up to 20,000 images.
        learn_crowds: Treat crowd regions as single objects.
        progress: Called from time to time.

    Raises:
        MissingFileError: If there is no annotation file.
        DataError: If a file is not COCO JSON.
        UsageError: If both splits are the same file.
    """
    findings = Findings()
    splits: list[Records] = []
    for name, source in find_splits(data, validation).items():
        is_training = not splits
        records = clean_records(read_records(source, name, learn_crowds=learn_crowds), is_training=is_training)
        findings.extend(records.faults)
        findings.extend(_class_faults(records, is_training=is_training))
        findings.extend(_object_notes(records, image_size_hw))
        splits.append(records)
    findings.extend(_split_faults(splits))

    if similar is None:
        similar = sum(len(records.images) for records in splits) <= SIMILAR_LIMIT
    compare = similar and len(splits) > 1
    pictures = {}
    for records in splits:
        pictures[records.split] = _look_at_files(records, findings, decode, compare, progress)
    findings.extend(find_copies(pictures))
    if compare:
        findings.extend(find_similar(pictures))
    summaries = tuple(summarize(records, image_size_hw) for records in splits)
    return DataCheck(findings.sorted(), summaries, tuple(splits), image_size_hw, compare)


def find_splits(data: str | Path, validation: str | Path | None) -> dict[str, SplitSource]:
    """Name of each split -> its location; see `check_data`."""
    own = [name for name in ("train", "val") if has_split(data, name)]
    # If there is neither split, `find_source` raises an error that lists what is expected.
    splits = {name: find_source(data, name) for name in own or ["train"]}
    if validation is not None:
        splits["val"] = find_source(validation, "val")
    places = {(source.path.resolve(), source.folder.resolve()) for source in splits.values()}
    if validation is not None and len(places) < len(splits):
        raise UsageError(f"--val {validation}: this is the same file as the training split; expected another one")
    return splits


def summarize(records: Records, image_size_hw: tuple[int, int]) -> SplitSummary:
    """The statistics of a split."""
    objects = [instance for instance in records.instances if not instance.iscrowd]
    with_something = {instance.image_id for instance in records.instances}
    per_class: Counter[int] = Counter()
    per_image: Counter[int] = Counter()
    sides_px = []
    for instance in objects:
        per_class[instance.category_id] += 1
        per_image[instance.image_id] += 1
        area = _area_at(records, instance.image_id, instance.area, image_size_hw)
        sides_px.append(area**0.5)
    frequent_first = sorted(records.categories, key=lambda category: -per_class[category])
    return SplitSummary(
        name=records.split,
        path=records.path,
        images=len(records.images),
        empty_images=len(records.images) - len(with_something),
        objects=len(objects),
        crowds=len(records.instances) - len(objects),
        classes={records.categories[category]: per_class[category] for category in frequent_first},
        sides_px=sides_px,
        per_image=Counter(per_image[image_id] for image_id in records.images),
        sizes=Counter((image.width, image.height) for image in records.images.values()),
    )


def _area_at(records: Records, image_id: int, area: int, image_size_hw: tuple[int, int]) -> float:
    """An area at the input size, in pixels."""
    image = records.images[image_id]
    height, width = image_size_hw
    scale = min(height / image.height, width / image.width)
    return area * scale**2


def _object_notes(records: Records, image_size_hw: tuple[int, int]) -> Iterator[tuple[str, Place]]:
    with_something = {instance.image_id for instance in records.instances}
    for image_id in records.images:
        if image_id not in with_something:
            yield "image-without-objects", records.place(image_id)
    for instance in records.instances:
        image_id = instance.image_id
        area = _area_at(records, image_id, instance.area, image_size_hw)
        if instance.iscrowd:
            yield "crowd", records.place(image_id, instance.id)
        elif area < MIN_VISIBLE_PX:
            yield "tiny-object", records.place(image_id, instance.id, f"{area:.1f} pixels")


def _class_faults(records: Records, *, is_training: bool) -> Iterator[tuple[str, Place]]:
    objects = [instance for instance in records.instances if not instance.iscrowd]
    if not any(instance.is_outlined for instance in objects):
        detail = records.path.name
        if records.instances and not objects:
            detail += f", all {len(records.instances)} are crowd regions; see --learn-crowds"
        fault = "nothing-to-learn" if is_training else "nothing-to-validate"
        yield fault, Place(records.split, detail=detail)
        return
    counts = count_objects(records.instances)
    for category, name in records.categories.items():
        count = counts[category]
        if is_training and count < RARE:
            yield "rare-class", Place(records.split, detail=f"{name}: {count}")
        elif not is_training and count == 0:
            yield "class-not-validated", Place(records.split, detail=name)


def _split_faults(splits: list[Records]) -> Iterator[tuple[str, Place]]:
    if len(splits) < 2:
        return
    names = [set(records.categories.values()) for records in splits]
    common = set.intersection(*names)
    if not common:
        yield "no-common-class", Place(splits[1].split, detail=", ".join(sorted(names[1])[:5]))
        return
    for records, own in zip(splits, names, strict=True):
        for name in sorted(own - common):
            yield "categories-differ", Place(records.split, detail=name)


def _look_at_files(
    records: Records, findings: Findings, decode: bool, compare: bool, progress: Progress
) -> list[CheckedImage]:
    """Images whose files can be read."""
    images = list(records.images.values())
    files = inspect_files(images, decode=decode, thumbs=compare)
    pictures = []
    for done, (image, file) in enumerate(zip(images, files, strict=True), start=1):
        if file.fault:
            findings.add(file.fault, records.place(image.id, detail=file.detail))
        if file.bytes:
            pictures.append(CheckedImage(records.split, image, file))
        progress(f"checked files of {records.split}", done, len(images))
    return pictures
