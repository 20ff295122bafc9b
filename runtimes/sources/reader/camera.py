"""Cameras of this machine: V4L2 and GStreamer by OpenCV, the Raspberry Pi's ribbon camera by picamera2."""

from __future__ import annotations

import errno
import glob
import os
import sys
from typing import Any

from .outlet import Outlet, Trouble
from .shots import BgrShot, RgbShot

VIDEO_MAJOR = 81
"""Number of the kernel's driver of video devices (Linux allocated devices)."""


def read_camera(plan: dict[str, Any], outlet: Outlet) -> None:
    """A camera of this machine, by V4L2 where there is one."""
    device = plan["device"]
    if isinstance(device, str):  # /dev/v4l/by-id/...: a link, which may lead elsewhere after a plug was pulled
        device = os.path.realpath(device)
    if sys.platform == "linux":
        check_device(f"/dev/video{device}" if isinstance(device, int) else device)
    import cv2

    outlet.tell(is_ready=True)
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
    if plan["format"]:  # before the size: it decides which sizes there are
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*plan["format"]))
    for property_, value in zip(
        (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH), plan["size_hw"] or (), strict=False
    ):
        capture.set(property_, value)
    if plan["fps"]:
        capture.set(cv2.CAP_PROP_FPS, plan["fps"])
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if difference := compare_mode(cv2, capture, plan):
        outlet.tell(warning=difference)
    read_capture(capture, outlet, "no picture; in use by another program, or no camera", code="no-video")


def check_device(path: str) -> None:
    """Find out in words what OpenCV would keep to itself."""
    try:
        if os.major(os.stat(path).st_rdev) != VIDEO_MAJOR:
            raise Trouble("no-device", f"it leads to {os.path.basename(path)}, which is no camera")
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError:
        found = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
        raise Trouble("no-device", f"there is no such camera (cameras here: {found})") from None
    except PermissionError:
        raise Trouble(
            "no-permission", 'this user may not open it: sudo usermod -aG video "$USER", then log in again'
        ) from None
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Trouble("busy", "another program uses this camera") from None
        raise Trouble("no-device", f"cannot be opened: {error.strerror}") from None


def compare_mode(cv2: Any, capture: Any, plan: dict[str, Any]) -> str:
    """What the camera gives instead of what was asked for, in words; "" if it does as told."""
    given = []
    size_hw = [int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))]
    if plan["size_hw"] and size_hw != plan["size_hw"]:
        given.append(f"{size_hw[1]}x{size_hw[0]}")
    fourcc = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", "replace")
    if plan["format"] and fourcc != plan["format"]:
        given.append(fourcc)
    rate = capture.get(cv2.CAP_PROP_FPS)
    if plan["fps"] and abs(rate - plan["fps"]) > 0.5:
        given.append(f"{rate:g} fps")
    return f"the camera has no such mode and gives {', '.join(given)}; modes: v4l2-ctl --list-formats-ext" * bool(given)


def read_gstreamer(plan: dict[str, Any], outlet: Outlet) -> None:
    """A GStreamer pipeline, by an OpenCV that was built with it."""
    import cv2

    outlet.tell(is_ready=True)
    capture = cv2.VideoCapture(plan["pipeline"], cv2.CAP_GSTREAMER)
    read_capture(capture, outlet, "the pipeline does not start; try it with gst-launch-1.0 and autovideosink")


def read_capture(capture: Any, outlet: Outlet, complaint: str, *, code: str = "unreadable") -> None:
    """Read an OpenCV capture until it fails. OpenCV calls a dead camera open: only a frame is a proof."""
    import cv2

    count = 0
    while True:
        there, image = capture.read()
        if not there:
            break
        count += 1
        outlet.put(BgrShot(image, cv2))
    if not count:
        raise Trouble(code, complaint)
    raise Trouble("lost", "the connection broke, or the camera was unplugged")


def read_picamera(plan: dict[str, Any], outlet: Outlet) -> None:
    """A camera at the ribbon cable of a Raspberry Pi, by picamera2."""
    try:
        from picamera2 import Picamera2
    except ModuleNotFoundError:
        raise Trouble(
            "no-driver",
            "picamera2 is not there: sudo apt install python3-picamera2, and python3 -m venv --system-site-packages",
        ) from None
    outlet.tell(is_ready=True)
    if plan["device"] >= len(Picamera2.global_camera_info()):
        raise Trouble("no-device", "there is no such camera; see rpicam-hello --list-cameras")
    try:
        camera = Picamera2(plan["device"])
    except RuntimeError:
        raise Trouble("busy", "cannot be opened; does another program use this camera?") from None
    height, width = plan["size_hw"] or (720, 1280)
    controls = {"FrameRate": plan["fps"]} if plan["fps"] else {}
    # libcamera names bytes from the last: its BGR888 is R, G, B in memory
    main = {"size": (width, height), "format": "BGR888"}
    camera.configure(camera.create_video_configuration(main=main, controls=controls, buffer_count=3))
    camera.start()
    while True:
        outlet.put(RgbShot(camera.capture_array("main")[:, :width]))
