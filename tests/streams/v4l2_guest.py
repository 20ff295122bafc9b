"""Run inside the virtual machine of `.ci/test-v4l2`: the loop on a V4L2 camera of the kernel's test driver vivid."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2])]

from runtimes import FakeRuntime, SourceError  # noqa: E402
from runtimes.sources import Source, connection, open_source  # noqa: E402
from runtimes.sources.reader.camera import check_device  # noqa: E402
from runtimes.sources.reader.outlet import Trouble  # noqa: E402
from runtimes.stream import Stream  # noqa: E402


def main() -> None:
    connection.START_S = 300.0  # the emulated machine imports slowly
    device = next(path for path in sorted(Path("/dev").glob("video*")) if is_camera(path))
    print("figures:", device, flush=True)
    check("modes", read_modes(device))
    check("formats", read_formats(device))
    check("missing device", fail(f"{device}9"))
    check("no permission", fail_without_permission(device))
    check("disconnect", disconnect(device))


def check(name: str, figure: str) -> None:
    print(f"{name:<20} {figure}", flush=True)


def is_camera(path: Path) -> bool:
    """Whether the device captures pictures."""
    return "Video Capture" in control(path, "--info").partition("Device Caps")[2]


def control(device: Path, *arguments: str) -> str:
    return subprocess.run(["v4l2-ctl", "-d", str(device), *arguments], capture_output=True, text=True).stdout


def patient(text: str) -> Source:
    """A source with all the time that an emulated machine needs."""
    source = open_source(text)
    source.open_s, source.stall_s = 60.0, 10.0
    return source


def read_modes(device: Path) -> str:
    """Two sizes, asked for and given; frames are live, not queued."""
    seen = []
    for size in ("320x180", "640x360"):
        stream = Stream(FakeRuntime(latency_s=0.3), patient(f"{device}#size={size},fps=25"))
        start = time.monotonic()
        frames = [(frame, time.monotonic() - frame.arrived) for frame, _ in itertools.islice(stream, 6)]
        (status,) = stream.status()
        width, height = map(int, size.split("x"))
        assert all(frame.image.shape == (height, width, 3) for frame, _ in frames), frames[0][0].image.shape
        assert status.received == status.processed + sum(status.dropped.values()) + status.in_flight
        worst = max(age for _, age in frames[1:])
        seen.append(f"{size}: {status.received} received, {status.dropped['late']} late, oldest {worst:.2f} s")
        assert time.monotonic() > start
    return "; ".join(seen)


def read_formats(device: Path) -> str:
    """What the camera sends in each form shows the same picture, whole and small."""
    seen = []
    converted = read_picture(f"{device}#size=640x360")
    for form in ("YUYV", "UYVY", "NV12", "YU12"):
        whole, small = read_picture(f"{device}#size=640x360,format={form}")
        for picture, reference in ((whole, converted[0]), (small, converted[1])):
            # A clock in the picture moves.
            share = np.mean(np.abs(picture.astype(int) - reference) < 16)
            assert share > 0.9, f"{form}: only {share:.2f} of {picture.shape} as OpenCV converts it"
        seen.append(f"{form} {share:.2f}")
    return ", ".join(seen)


def read_picture(text: str) -> tuple[np.ndarray, np.ndarray]:
    """A frame, and what the model reads of it."""
    stream = Stream(FakeRuntime(), patient(text))
    for frame, _ in itertools.islice(stream, 2, 3):
        assert frame.small is not None
        return frame.image, frame.small
    raise AssertionError(f"{text} gave no frame")


def fail(text: str) -> str:
    start = time.monotonic()
    try:
        next(iter(patient(text)))
    except SourceError as error:
        return f"{error.code} after {time.monotonic() - start:.1f} s: {error}"
    raise AssertionError(f"{text} gave a frame")


def fail_without_permission(device: Path) -> str:
    """The error for a user without permission; in a fork, since that user cannot read our Python."""
    device.chmod(0o600)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setuid(65534)
        try:
            check_device(str(device))
        except Trouble as trouble:
            os.write(writer, f"{trouble.code}: {trouble}".encode())
        os._exit(0)
    os.close(writer)
    os.wait()
    device.chmod(0o666)
    words = os.read(reader, 1000).decode()
    assert words.startswith("no-permission"), words
    return words


def disconnect(device: Path) -> str:
    """The device is unplugged during capture; vivid gives frames again after it is reopened."""
    stream = Stream(FakeRuntime(), patient(str(device)))
    frames = iter(stream)
    next(frames)
    start = time.monotonic()
    control(device, "--set-ctrl", "disconnect=1")
    while (status := stream.status()[0]).state == "live" and time.monotonic() - start < 60:
        time.sleep(0.05)
    noticed = time.monotonic() - start
    assert status.state == "lost", status
    while stream.status()[0].reconnects == 0 and time.monotonic() - start < 120:
        next(frames)
    (after,) = stream.status()
    frames.close()
    assert after.reconnects == 1, after
    return f"lost after {noticed:.1f} s ({status.error}); back after {time.monotonic() - start:.1f} s"


if __name__ == "__main__":
    try:
        main()
        print("good", flush=True)
    except Exception as error:
        print(f"BROKEN {type(error).__name__}: {error}", flush=True)
