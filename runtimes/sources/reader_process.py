"""The program that reads one live source: a process of its own, so that it can be killed when a driver hangs.

`Connection` starts this file. It decodes every frame, keeps the newest, and gives it away when it is asked: only such
frames are turned into RGB, in memory that both processes share. Over a socket go lines of JSON: the plan of what to
open (never on the command line, where `ps` shows passwords), then requests one way and reports the other way.

Beyond the standard library nothing is imported before the camera has been reached, so that a vain attempt costs
little; and nothing of this package ever, which would bring OpenCV and more. PyAV alone reads a network
stream, without NumPy, whose import costs three times as much.
"""

from __future__ import annotations

import errno
import glob
import json
import mmap
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

PROBE_S = 3.0
"""How long a host may take to accept a TCP connection."""
REPORT_S = 0.2
"""Seconds between two reports while nobody asks for frames."""

AFTER_CONNECTION = {"unreadable": "lost", "not-a-stream": "lost", "silent": "stalled"}
"""What a trouble is once frames have come."""


class Trouble(Exception):
    """Why the source cannot be read: a code of `CODES`, and words without secrets."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class RgbBuffer(NamedTuple):
    """8-bit RGB in memory."""

    data: memoryview
    """`height` rows of `stride` bytes, each beginning with `width` pixels of three bytes."""
    height: int
    width: int
    stride: int


class Outlet:
    """Counts frames, keeps the newest, and hands it over when it was asked for; for two threads."""

    def __init__(self, channel: socket.socket, memory: int) -> None:
        self._channel = channel
        self._memory = memory
        self._map: mmap.mmap | None = None
        self._lock = threading.Lock()
        self._counts = {"received": 0, "late": 0, "damaged": 0}
        self._newest: Callable[[], RgbBuffer] | None = None
        self._arrived = 0.0
        self._is_wanted = False
        self._reported = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether a frame was decoded, which alone proves a connection."""
        return self._arrived > 0

    def put(self, convert: Callable[[], RgbBuffer]) -> None:
        """A frame was decoded; `convert` makes RGB of it."""
        with self._lock:
            self._counts["received"] += 1
            self._counts["late"] += self._newest is not None
            self._newest, self._arrived = convert, time.monotonic()
            if self._is_wanted:
                self._give()
            elif self._arrived - self._reported > REPORT_S:
                self._report()

    def damaged(self) -> None:
        """A frame came that the decoder calls broken."""
        with self._lock:
            self._counts["received"] += 1
            self._counts["damaged"] += 1
            if time.monotonic() - self._reported > REPORT_S:
                self._report()

    def ask(self) -> None:
        """The newest frame is wanted: now, or as soon as there is one."""
        with self._lock:
            self._is_wanted = True
            if self._newest is not None:
                self._give()

    def tell(self, **fields: object) -> None:
        """Send a report with the counts as they stand."""
        with self._lock:
            self._report(**fields)

    def _give(self) -> None:
        assert self._newest is not None
        picture = self._newest()
        self._newest, self._is_wanted = None, False
        self._share(picture)
        self._report(
            height=picture.height, width=picture.width, stride=picture.stride, index=self._counts["received"] - 1
        )

    def _share(self, picture: RgbBuffer) -> None:
        """Copy a picture into the shared memory, which grows with it; it is taken out before the next is asked for."""
        size = picture.height * picture.stride
        if self._map is None or len(self._map) < size:
            os.ftruncate(self._memory, size)
            self._map = mmap.mmap(self._memory, size)
        self._map[:size] = picture.data[:size]

    def _report(self, **fields: object) -> None:
        self._reported = time.monotonic()
        report = {**self._counts, "waiting": int(self._newest is not None), "arrived": self._arrived, **fields}
        self._channel.sendall(json.dumps(report).encode() + b"\n")


def main() -> None:
    """Read the source of the plan until it fails; say why."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and systemd reach the whole group; our parent ends us
        signal.signal(number, signal.SIG_IGN)
    for descriptor in map(int, sys.argv[1:3]):  # helpers that a library starts must not keep them open after us
        os.set_inheritable(descriptor, False)
    channel = socket.socket(fileno=int(sys.argv[1]))
    lines = channel.makefile("rb")
    plan = json.loads(lines.readline())
    sys.path[:] = plan["path"]
    outlet = Outlet(channel, int(sys.argv[2]))
    threading.Thread(target=obey, args=(lines, outlet), daemon=True).start()
    try:
        READERS[plan["kind"]](plan, outlet)
        trouble = Trouble("lost", "the stream ended")
    except Trouble as error:
        trouble = error
    except Exception as error:  # whatever a driver raises; its text may hold the address
        trouble = Trouble("unreadable", f"cannot be read ({type(error).__name__})")
    code = AFTER_CONNECTION.get(trouble.code, trouble.code) if outlet.is_connected else trouble.code
    outlet.tell(trouble=code, words=str(trouble))
    os._exit(0)


def obey(lines: Any, outlet: Outlet) -> None:
    """Give a frame per request, each a delay in seconds; end with the process that started us, even in a hang."""
    try:
        for line in lines:
            time.sleep(float(line))
            outlet.ask()
    finally:
        os._exit(0)


def read_network(plan: dict[str, Any], outlet: Outlet) -> None:
    """An RTSP, HTTP, RTMP, SRT or UDP stream: by PyAV, or OpenCV where that is not installed."""
    probe(plan["host"], plan["port"])
    try:
        import av
    except ModuleNotFoundError:
        read_network_with_opencv(plan, outlet)
        return
    outlet.tell(is_ready=True)
    limit = plan["timeout_s"]
    try:
        with av.open(plan["url"], options=plan["options"], timeout=(limit, limit)) as container:
            decode(av, container, outlet)
    except Trouble:
        raise
    except Exception as error:
        raise explain(error) from None


def decode(av: Any, container: Any, outlet: Outlet) -> None:
    """Decode the first video of an open container, frame by frame; broken ones are counted and left out."""
    if container.format.name in ("jpeg_pipe", "png_pipe"):
        raise Trouble("not-a-stream", "the server sends one picture; look for the address of its video")
    if not container.streams.video:
        raise Trouble("no-video", "there is no video in this stream")
    video = container.streams.video[0]
    if getattr(video, "codec_context", None) is None:
        raise Trouble("no-codec", "the video is of a kind that this FFmpeg cannot decode")
    video.thread_type = "SLICE"  # threads over frames would hold some of them back
    is_whole = check_jpeg() if video.codec_context.name == "mjpeg" else lambda packet: True
    for packet in container.demux(video):
        if packet.size and not is_whole(packet):
            outlet.damaged()
            continue
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            outlet.damaged()
            continue
        for frame in frames:
            if frame.is_corrupt:
                outlet.damaged()
            else:
                outlet.put(partial(convert_frame, frame))


def convert_frame(frame: Any) -> RgbBuffer:
    """A frame of PyAV as RGB."""
    rgb = frame.reformat(format="rgb24")
    return RgbBuffer(memoryview(rgb.planes[0]), rgb.height, rgb.width, rgb.planes[0].line_size)


def convert_array(image: Any, cv2: Any = None) -> RgbBuffer:
    """A (H, W, 3) uint8 array as RGB; one of OpenCV, which is BGR, with `cv2`."""
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if cv2 else image.copy()
    height, width = rgb.shape[:2]
    return RgbBuffer(memoryview(rgb).cast("B"), height, width, 3 * width)


def check_jpeg() -> Callable[[Any], bool]:
    """Says of one packet after the other whether it ends as a JPEG does; FFmpeg draws half a picture without a word.

    Some cameras leave the end marker out: until it was seen once, a missing one means nothing.
    """
    is_usual = False

    def is_whole(packet: Any) -> bool:
        nonlocal is_usual
        has_end = bytes(memoryview(packet)[-64:]).rstrip(b"\0").endswith(b"\xff\xd9")
        is_usual = is_usual or has_end
        return has_end or not is_usual

    return is_whole


def read_network_with_opencv(plan: dict[str, Any], outlet: Outlet) -> None:
    """The same stream by OpenCV, which knows no reasons."""
    options = "|".join(f"{key};{value}" for key, value in plan["options"].items())
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = options
    import cv2

    outlet.tell(is_ready=True)
    limit = int(1000 * plan["timeout_s"])
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    read_capture(cv2.VideoCapture(plan["url"], cv2.CAP_FFMPEG, limits), outlet, _UNKNOWN)


_UNKNOWN = "cannot be opened; check address, user name and password (PyAV would know why: pip install av)"


def probe(host: str, port: int | None) -> None:
    """See whether somebody listens, before anything expensive is done."""
    if port is None:
        return
    try:
        socket.create_connection((host, port), PROBE_S).close()
    except socket.gaierror:
        raise Trouble("unknown-host", "no such host; check it, and in a password write / as %2F and @ as %40") from None
    except ConnectionRefusedError:
        raise Trouble("refused", f"nothing listens at port {port} there; is the camera's server on?") from None
    except OSError:
        raise Trouble("unreachable", "the host does not answer; is it on and in this network?") from None


_REASONS = {
    "Unauthorized": ("unauthorised", "the server refuses this user name and password"),
    "Forbidden": ("unauthorised", "the server refuses this user name and password"),
    "ProtocolNotFound": ("no-codec", "this FFmpeg does not know this kind of address"),
    "DecoderNotFound": ("no-codec", "the video is of a kind that this FFmpeg cannot decode"),
    "NotFound": ("not-found", "the server answers, but has no such stream"),
    "HTTPServer": ("unreadable", "the server answers with an error of its own; is the camera still starting?"),
    "BadRequest": ("not-found", "the server answers, but refuses the request"),
    "ConnectionRefused": ("refused", "nothing listens at this address and port"),
    "InvalidData": ("not-a-stream", "the server answers, but not with a video"),
    "EOF": ("lost", "the stream ended"),
    "Exit": ("silent", "no answer or no frame in time"),
    "Timeout": ("silent", "no answer or no frame in time"),
    "Connection": ("lost", "the connection broke"),
    "BrokenPipe": ("lost", "the connection broke"),
}
"""Part of the name of an error of PyAV -> code and words. Its text holds the address, and is not used."""


def explain(error: Exception) -> Trouble:
    """An error of PyAV in our words."""
    kind = type(error).__name__
    known = (reason for key, reason in _REASONS.items() if key in kind)
    number = getattr(error, "errno", None) or 0
    if number == errno.EIO:
        return Trouble("not-a-stream", "the server ends its answer before a picture; is this the address of a video?")
    reason = os.strerror(number) if 0 < number < 200 else kind
    return Trouble(*next(known, ("unreadable", f"cannot be read: {reason}")))


def read_camera(plan: dict[str, Any], outlet: Outlet) -> None:
    """A camera of this machine, by V4L2 where there is one."""
    device = plan["device"]
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
        outlet.put(partial(convert_array, image, cv2))
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
        outlet.put(partial(convert_array, camera.capture_array("main")[:, :width]))


READERS: dict[str, Callable[[dict[str, Any], Outlet], None]] = {
    "network": read_network,
    "camera": read_camera,
    "gstreamer": read_gstreamer,
    "picamera": read_picamera,
}

if __name__ == "__main__":
    main()
