"""Cameras of this machine: V4L2 and GStreamer by OpenCV, the Raspberry Pi's ribbon camera by picamera2.

A V4L2 camera's frames stay in the format in which it sends them, if that format is supported. A frame is converted or
decoded only when something needs its pixels.
"""

from __future__ import annotations

import errno
import glob
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from .mjpeg import Decoder, JpegShot, UsualEnd
from .outlet import Outlet, Trouble
from .scaling import Scaler
from .shots import BgrShot, BrokenFrameError, RawShot, RgbShot, Shot

VIDEO_MAJOR = 81
"""Number of the kernel's driver of video devices (Linux allocated devices)."""
RAW_FORMS = {"YUYV": "yuyv422", "UYVY": "uyvy422", "NV12": "nv12", "NV21": "nv21", "YU12": "yuv420p"}
"""FourCC of what a camera sends -> FFmpeg's name of the pixel format."""

ShotMaker = Callable[[Any], Shot]
"""From an array of OpenCV to a frame; raises BrokenFrameError if it is damaged."""


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
    if plan["format"]:  # set the format before the size, because the camera offers other sizes for each format
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
    complaint = "no image; the device is in use by another program, or is not a camera"
    read_capture(capture, outlet, complaint, code="no-video", make_shot=choose_shots(cv2, capture))


def choose_shots(cv2: Any, capture: Any) -> ShotMaker:
    """Turn off a V4L2 capture's conversion if its format is supported; return the function that makes frames."""
    fourcc = read_fourcc(cv2, capture)
    make_shot: ShotMaker | None = None
    if fourcc in ("MJPG", "JPEG"):
        make_shot = partial(take_jpeg, Decoder(), UsualEnd())
    elif fourcc in RAW_FORMS:
        make_shot = choose_raw(RAW_FORMS[fourcc], read_size(cv2, capture))
    if make_shot is not None and capture.set(cv2.CAP_PROP_CONVERT_RGB, 0):
        return make_shot
    return lambda image: BgrShot(image, cv2)


def choose_raw(form: str, size_hw: tuple[int, int]) -> ShotMaker | None:
    """The function that makes frames of a camera's planes; None without PyAV, which scales them."""
    try:
        import av
    except ModuleNotFoundError:
        return None
    return partial(take_raw, av, Scaler(av), form, size_hw)


def take_jpeg(decoder: Decoder, ends: UsualEnd, image: Any) -> Shot:
    """The JPEG frame in a buffer of the driver, which may end in zeros."""
    data = image.tobytes()
    if not ends.is_whole(data[-4096:].rstrip(b"\0").endswith(b"\xff\xd9")):
        raise BrokenFrameError
    return JpegShot(data, decoder)


def take_raw(av: Any, scaler: Scaler, form: str, size_hw: tuple[int, int], image: Any) -> Shot:
    """The frame in an array of a camera's planes."""
    shot = RawShot(image, form, size_hw, av, scaler)
    if image.nbytes < shot.byte_count:
        raise BrokenFrameError
    return shot


def check_device(path: str) -> None:
    """Raise an error that says why a device cannot be opened; OpenCV gives no reason."""
    try:
        if os.major(os.stat(path).st_rdev) != VIDEO_MAJOR:
            raise Trouble("no-device", f"it is a link to {os.path.basename(path)}, which is not a camera")
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError:
        found = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
        raise Trouble("no-device", f"no such camera (cameras here: {found})") from None
    except PermissionError:
        raise Trouble(
            "no-permission", 'no permission to open it: sudo usermod -aG video "$USER", then log in again'
        ) from None
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Trouble("busy", "another program uses this camera") from None
        raise Trouble("no-device", f"cannot be opened: {error.strerror}") from None


def compare_mode(cv2: Any, capture: Any, plan: dict[str, Any]) -> str:
    """How the mode of the camera differs from the requested one, in words; "" if it does not."""
    given = []
    height, width = read_size(cv2, capture)
    if plan["size_hw"] and [height, width] != plan["size_hw"]:
        given.append(f"{width}x{height}")
    fourcc = read_fourcc(cv2, capture)
    if plan["format"] and fourcc != plan["format"]:
        given.append(fourcc)
    rate = capture.get(cv2.CAP_PROP_FPS)
    if plan["fps"] and abs(rate - plan["fps"]) > 0.5:
        given.append(f"{rate:g} fps")
    return (
        f"the camera does not support this mode; it offers {', '.join(given)}; modes: v4l2-ctl --list-formats-ext"
        * bool(given)
    )


def read_size(cv2: Any, capture: Any) -> tuple[int, int]:
    """Height and width of a capture's frames, in pixels."""
    return int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))


def read_fourcc(cv2: Any, capture: Any) -> str:
    """FourCC of the format in which a camera sends."""
    return int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True).decode("ascii", "replace")


def read_gstreamer(plan: dict[str, Any], outlet: Outlet) -> None:
    """A GStreamer pipeline, by an OpenCV that was built with it."""
    import cv2

    outlet.tell(is_ready=True)
    capture = cv2.VideoCapture(plan["pipeline"], cv2.CAP_GSTREAMER)
    read_capture(capture, outlet, "the pipeline does not start; test it with gst-launch-1.0 and autovideosink")


def read_capture(
    capture: Any, outlet: Outlet, complaint: str, *, code: str = "unreadable", make_shot: ShotMaker | None = None
) -> None:
    """Read an OpenCV capture until it fails. OpenCV calls a dead camera open: only a frame is a proof.

    Args:
        capture: A `VideoCapture`.
        outlet: Where frames go.
        complaint: Error message if no frame arrives.
        code: Its code, one of `runtimes.sources.CODES`.
        make_shot: Makes a frame of an array of the capture; None: the array is BGR.
    """
    import cv2

    make_shot = make_shot or (lambda image: BgrShot(image, cv2))
    count = 0
    while True:
        there, image = capture.read()
        if not there:
            break
        count += 1
        try:
            outlet.put(make_shot(image))
        except BrokenFrameError:
            outlet.damaged()
    if not count:
        raise Trouble(code, complaint)
    raise Trouble("lost", "the connection was lost, or the camera was unplugged")


def read_picamera(plan: dict[str, Any], outlet: Outlet) -> None:
    """A camera at the ribbon cable of a Raspberry Pi, by picamera2."""
    try:
        from picamera2 import Picamera2
    except ModuleNotFoundError:
        raise Trouble(
            "no-driver",
            "no picamera2: sudo apt install python3-picamera2, and python3 -m venv --system-site-packages",
        ) from None
    outlet.tell(is_ready=True)
    if plan["device"] >= len(Picamera2.global_camera_info()):
        raise Trouble("no-device", "no such camera; see rpicam-hello --list-cameras")
    try:
        camera = Picamera2(plan["device"])
    except RuntimeError:
        raise Trouble("busy", "cannot be opened; another program may be using this camera") from None
    height, width = plan["size_hw"] or (720, 1280)
    controls = {"FrameRate": plan["fps"]} if plan["fps"] else {}
    # libcamera names the last byte first: its BGR888 is R, G, B in memory
    main = {"size": (width, height), "format": "BGR888"}
    camera.configure(camera.create_video_configuration(main=main, controls=controls, buffer_count=3))
    camera.start()
    while True:
        outlet.put(RgbShot(camera.capture_array("main")[:, :width]))
