"""A file of COCO results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge_mrcnn.live.option_spec import option
from edge_mrcnn.live.outputs.base import LoopContext, Output
from edge_mrcnn.live.outputs.text_file import TextFile
from edge_mrcnn.live.result import LiveResult
from edge_mrcnn.measure.files import file_number
from runtimes.sources import Frame, ImageSource, Source

ImageId = int | str


@dataclass(frozen=True, kw_only=True)
class CocoSettings:
    """Options of the COCO results."""

    coco: Path | None = option(None, "Write detections as COCO results; - for standard output.", kind="file")


class CocoResults(Output):
    """Writes `[{"image_id": ...}, ...]` incrementally, so memory stays constant.

    The image id is the frame number; with several sources it is "SOURCE/number", and for images their file name.
    """

    settings_type = CocoSettings
    keeps_frames = False

    def __init__(self, path: Path, name_image: Callable[[Frame], ImageId], *, overwrite: bool = False) -> None:
        """Prepare it; the file is created with the first frame.

        Args:
            path: Path of the file; its folder is made.
            name_image: Returns the image id of a frame.
            overwrite: Whether an existing file is replaced.

        Raises:
            UnavailableError: If the file cannot be written.
        """
        self.name = f"--coco {path}"
        self._file = TextFile(path, overwrite=overwrite)
        self._name_image = name_image
        self._separator = "[\n"

    @classmethod
    def open(cls, settings: CocoSettings, context: LoopContext) -> CocoResults | None:
        if settings.coco is None:
            return None
        name = partial(name_image, names=name_images(context.sources), is_alone=len(context.sources) == 1)
        return cls(settings.coco, name, overwrite=context.overwrite)

    def put(self, result: LiveResult) -> None:
        self._file.open()
        for record in result.found.to_coco(self._name_image(result.frame)):
            self._file.write(self._separator + json.dumps(record))
            self._separator = ",\n"

    @property
    def is_finished(self) -> bool:  # type: ignore[override]
        """Whether the reader of standard output has closed it."""
        return self._file.is_unwanted

    def written(self) -> Iterable[str]:
        return self._file.written()

    def close(self) -> None:
        try:
            if self._file.is_open:
                self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")
        finally:
            self._file.close()


def name_images(sources: Mapping[str, Source]) -> dict[tuple[str, str], ImageId]:
    """Label of the source and path of each image file -> its image id: the number or name of the file.

    If files of several folders have the same name, all ids are paths.
    """
    images = [(label, str(path)) for label, s in sources.items() if isinstance(s, ImageSource) for path in s.paths]
    ids = {image: _id_of(Path(image[1])) for image in images}
    if len(set(ids.values())) == len(ids):
        return ids
    return {(label, path): Path(path).as_posix() for label, path in images}


def _id_of(path: Path) -> ImageId:
    number = file_number(path)
    return path.name if number is None else number


def name_image(frame: Frame, *, names: Mapping[tuple[str, str], ImageId], is_alone: bool) -> ImageId:
    """The image id of a frame in COCO results.

    Args:
        frame: The frame.
        names: Those of image files, by `name_images`.
        is_alone: Whether there is one source only.
    """
    name = names.get((frame.source, frame.name))
    if name is not None:
        return name
    return frame.index if is_alone else f"{frame.source}/{frame.index}"
