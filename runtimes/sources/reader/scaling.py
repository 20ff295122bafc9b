"""From the planes of a decoded frame straight to the small picture that a model reads.

A model of 320 pixels sees a sixth of a 1080p frame's sides. Making RGB of the whole frame first and shrinking that
costs several times what the planes cost when they are shrunk as they are: libswscale averages areas of Y, U and V, and
only the small picture is turned into RGB, by the matrix and range of the frame.
"""

from __future__ import annotations

from typing import Any

SizeHw = tuple[int, int]


def fit_size(source_hw: SizeHw, input_hw: SizeHw) -> SizeHw:
    """Height and width, in pixels, of a source's picture in the input of a model; as `runtimes.preprocess` has it."""
    source_h, source_w = source_hw
    height, width = input_hw
    scale = min(height / source_h, width / source_w)
    new_h = min(height, max(1, round(source_h * scale)))
    new_w = min(width, max(1, round(source_w * scale)))
    return new_h, new_w


def can_shrink(source_hw: SizeHw, input_hw: SizeHw) -> bool:
    """Whether averages of areas give what the letterbox gives: from half the size on downwards.

    Between a half and the whole the letterbox samples, and does not average, which a model notices (0.6 points of box
    AP at 0.62). Such a picture is small, so it goes the whole way: as planes to the model's process, and there to RGB.
    """
    return 2 * input_hw[0] <= source_hw[0] or 2 * input_hw[1] <= source_hw[1]


class Scaler:
    """Makes small RGB pictures of PyAV's frames; for one thread at a time."""

    def __init__(self, av: Any) -> None:
        """
        Args:
            av: The package PyAV.
        """
        reformatter = av.video.reformatter.VideoReformatter
        # Apart, since each keeps what it has prepared for a size and format.
        self._shrink = reformatter()
        self._color = reformatter()
        self._options = one_thread(av, self._color)

    def scale(self, frame: Any, size_hw: SizeHw, *, is_exact: bool = True) -> Any:
        """The frame in another size, by averages of areas.

        Args:
            frame: A `VideoFrame` of any pixel format.
            size_hw: New height and width, in pixels.
            is_exact: Whether a model reads it. For eyes, colours of half the resolution and shades that are one of 255
                too dark are enough, at half the cost where the picture is large.

        Returns:
            A `VideoFrame` of "rgb24".
        """
        size = {"width": size_hw[1], "height": size_hw[0], "interpolation": "AREA"}
        if frame.format.is_rgb:
            return self._color.reformat(frame, format="rgb24", **size, **self._options)
        # Straight to RGB takes longer, and rounds every shade down.
        has_full_range = frame.format.name.startswith("yuvj")
        form = f"yuv{'j' * has_full_range}{444 if is_exact else 420}p"
        small = self._shrink.reformat(frame, format=form, **size, **self._options)
        return self._color.reformat(small, format="rgb24", **self._options)


def one_thread(av: Any, reformatter: Any) -> dict[str, int]:
    """The option that keeps this PyAV from starting threads of its own for a conversion; older ones start none."""
    try:
        reformatter.reformat(av.VideoFrame(16, 16, "yuv420p"), format="rgb24", threads=1)
    except TypeError:
        return {}
    return {"threads": 1}
