"""YOLO segmentation labels: a text file per frame, a line per object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_mrcnn.live.names import slug
from edge_mrcnn.live.option_spec import option
from edge_mrcnn.live.outputs.base import LoopContext, Output
from edge_mrcnn.live.result import LiveResult
from runtimes import Detections
from runtimes.output_paths import expect_writable, free_path
from runtimes.sources import Frame, ImageSource, Source


@dataclass(frozen=True, kw_only=True)
class YoloSettings:
    """Options of the labels."""

    save_txt: Path | None = option(
        None, "Write YOLO segmentation labels to this folder, one text file per frame.", kind="path", metavar="DIR"
    )


class YoloLabels(Output):
    """Writes `class x y x y ...` in shares of the image; always a file for images, for video frames only if they have
    objects."""

    settings_type = YoloSettings
    keeps_frames = False

    def __init__(self, folder: Path, sources: dict[str, Source], *, overwrite: bool = False) -> None:
        """Prepare it; the folder is created with its first file.

        Args:
            folder: Output folder.
            sources: Label -> source.
            overwrite: Whether existing files are replaced.

        Raises:
            UnavailableError: If the folder cannot be written.
        """
        expect_writable(folder)
        self.name = f"--save-txt {folder}"
        self._folder = folder
        self._sources = sources
        self._overwrite = overwrite
        self._count = 0

    @classmethod
    def open(cls, settings: YoloSettings, context: LoopContext) -> YoloLabels | None:
        if settings.save_txt is None:
            return None
        return cls(settings.save_txt, dict(context.sources), overwrite=context.overwrite)

    def put(self, result: LiveResult) -> None:
        source = self._sources[result.frame.source]
        if not (isinstance(source, ImageSource) or len(result.found)):
            return
        if self._count == 0:
            self._folder = free_path(self._folder, overwrite=self._overwrite)
        path = self._folder / name_labels(result.frame, source)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in to_yolo(result.found)), encoding="utf-8")
        self._count += 1

    def written(self) -> Iterable[str]:
        return [f"{self._folder}: labels of {self._count} pictures"] if self._count else []


def name_labels(frame: Frame, source: Source) -> Path:
    """Path of the labels of a frame, relative to the folder: the name of the image, or the source and frame number."""
    if isinstance(source, ImageSource):
        return Path(frame.name).relative_to(source.root).with_suffix(".txt")
    stem = Path(frame.source).stem if Path(frame.source).exists() else frame.source
    return Path(f"{slug(stem) or 'source'}_{frame.index:06d}.txt")


def to_yolo(found: Detections) -> list[str]:
    """A line per object: the label, then the corners of the largest part of its mask in shares of the image.

    If the mask is empty, the corners of the box.
    """
    height, width = found.image_size_hw
    lines = []
    for label, outline, box_xyxy in zip(found.labels.tolist(), found.masks.xy, found.boxes_xyxy, strict=True):
        x0, y0, x1, y1 = box_xyxy.tolist()
        is_empty = len(outline) < 3
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)] if is_empty else outline.tolist()
        shares = [f"{x / width:.6f} {y / height:.6f}" for x, y in corners]
        lines.append(" ".join([str(label), *shares]))
    return lines
