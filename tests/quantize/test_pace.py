"""A long calibration announces its duration, a short one does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quantize.pace import tell_pace


def clock_of(*seconds: float) -> Iterator[float]:
    yield from seconds


@pytest.mark.parametrize(("picture_s", "said"), [(3.0, "128 images takes about 6 min"), (0.3, "")])
def test_first_picture_tells_how_long_all_take(picture_s: float, said: str, caplog: pytest.LogCaptureFixture) -> None:
    clock = clock_of(10.0, 10.0 + picture_s)
    passed = list(tell_pace(iter("abc"), 128, "heavy.onnx", clock=lambda: next(clock)))
    assert passed == ["a", "b", "c"]
    assert said in caplog.text and bool(caplog.text) == bool(said)


def test_single_picture_is_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    assert list(tell_pace([1], 1, "model.tflite")) == [1] and list(tell_pace([], 0, "model.tflite")) == []
    assert not caplog.text
