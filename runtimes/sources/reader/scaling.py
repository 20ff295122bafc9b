"""From the planes of a decoded frame directly to the model's small input image.

A model with 320 pixels uses a sixth of a 1080p frame's sides. Converting the whole frame to RGB and shrinking it costs
several times as much as shrinking the planes: libswscale averages areas of Y, U and V, and only the small image is
converted to RGB, with the matrix and range of the frame.
"""

from __future__ import annotations

from typing import Any

SizeHw = tuple[int, int]


def fit_size(source_hw: SizeHw, input_hw: SizeHw) -> SizeHw:
    """Height and width, in pixels, of an image inside the model's input; as in `runtimes.preprocess`."""
    source_h, source_w = source_hw
    height, width = input_hw
    scale = min(height / source_h, width / source_w)
    new_h = min(height, max(1, round(source_h * scale)))
    new_w = min(width, max(1, round(source_w * scale)))
    return new_h, new_w


def can_shrink(source_hw: SizeHw, input_hw: SizeHw) -> bool:
    """Whether area averaging gives the same result as letterboxing: at half the size or less.

    Between half and full size, letterboxing samples and does not average, which affects the model (0.6 points of box AP
    at 0.62). Such an image is small, so it is sent to the model's process as planes, and converted to RGB there.
    """
    return 2 * input_hw[0] <= source_hw[0] or 2 * input_hw[1] <= source_hw[1]


class Scaler:
    """Makes small RGB images of PyAV frames; not thread-safe."""

    def __init__(self, av: Any) -> None:
        """
        Args:
            av: The package PyAV.
        """
        reformatter = av.video.reformatter.VideoReformatter
        # Separate objects, because each caches its preparation for one size and format.
        self._shrink = reformatter()
        self._color = reformatter()
        self._options = one_thread(av, self._color)

    def scale(self, frame: Any, size_hw: SizeHw, *, is_exact: bool = True) -> Any:
        """The frame at another size, by area averaging.

        Args:
            frame: A `VideoFrame` of any pixel format.
            size_hw: New height and width, in pixels.
            is_exact: Whether it is for a model. For viewing, colours of half the resolution and shades that are too
                dark by one of 255 are enough, at half the cost for large images.

        Returns:
            A `VideoFrame` of "rgb24".
        """
        size = {"width": size_hw[1], "height": size_hw[0], "interpolation": "AREA"}
        if frame.format.is_rgb:
            return self._color.reformat(frame, format="rgb24", **size, **self._options)
        # Direct conversion to RGB takes longer, and rounds all shades down.
        has_full_range = frame.format.name.startswith("yuvj")
        form = f"yuv{'j' * has_full_range}{444 if is_exact else 420}p"
        small = self._shrink.reformat(frame, format=form, **size, **self._options)
        return self._color.reformat(small, format="rgb24", **self._options)


def one_thread(av: Any, reformatter: Any) -> dict[str, int]:
    """The option that stops this PyAV from starting threads for a conversion; older versions start none."""
    try:
        reformatter.reformat(av.VideoFrame(16, 16, "yuv420p"), format="rgb24", threads=1)
    except TypeError:
        return {}
    return {"threads": 1}
