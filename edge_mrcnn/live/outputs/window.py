"""Frames with masks drawn, in a window on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2

from edge_mrcnn.live.option_spec import option
from edge_mrcnn.live.outputs.base import LoopContext, Output
from edge_mrcnn.live.result import LiveResult
from runtimes.errors import UsageError

TITLE = "edge-mrcnn"
ENDS = (ord("q"), 27)
"""Keys that end the loop: q and Escape."""


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """Options of the window."""

    show: bool = option(False, "Show frames in a window; press q to stop.", kind="switch")


class Window(Output):
    """Shows every frame. A window belongs to the thread that opened it, so this output draws in the loop's thread."""

    settings_type = WindowSettings
    needs_drawing = True
    keeps_frames = False
    name = "--show"

    @classmethod
    def open(cls, settings: WindowSettings, context: LoopContext) -> Window | None:
        if not settings.show:
            return None
        try:
            cv2.namedWindow(TITLE, cv2.WINDOW_AUTOSIZE)
        except cv2.error as error:
            raise UsageError(
                "--show needs an OpenCV with windows and a display: pip uninstall opencv-python-headless && "
                "pip install opencv-python; or keep a video with --save"
            ) from error
        return cls()

    def put(self, result: LiveResult) -> None:
        cv2.imshow(TITLE, cv2.cvtColor(result.drawn(), cv2.COLOR_RGB2BGR))
        key: Any = cv2.waitKey(1)
        self.is_finished = key & 0xFF in ENDS
