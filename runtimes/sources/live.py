"""Cameras and network streams, each read by a process of its own."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Generator, Mapping
from typing import Any

import cv2

from runtimes.errors import SourceError, UsageError
from runtimes.redaction import find_secrets, hide, redact
from runtimes.sources.address import parse_rate, parse_seconds, parse_size, parse_url, split_options
from runtimes.sources.base import STALL_S, Frame, Source
from runtimes.sources.connection import LONGEST_S, Connection
from runtimes.sources.files import VIDEO_SUFFIXES, VideoSource

OPEN_S = 5.0
"""Maximum seconds from the connection attempt to the first frame, if no data comes meanwhile."""
LIMITS = {
    "open": "10 (seconds until the first picture)",
    "stall": "5 (seconds without a picture)",
    "infer": "5 (frames a second that the model sees)",
}
"""Options of every live source."""
_TICK_S = 0.5

logger = logging.getLogger(__name__)


class LiveSource(Source):
    """A camera or a network stream, which sends frames at its own rate."""

    is_live = True
    can_reconnect = True

    def __init__(
        self,
        name: str,
        plan: Mapping[str, Any],
        *,
        open_s: float = OPEN_S,
        stall_s: float = STALL_S,
        infer_fps: float | None = None,
    ) -> None:
        """Prepare it; nothing is opened before it is iterated or connected.

        Args:
            name: Name without secrets.
            plan: Instructions for `reader_process`.
            open_s: Maximum seconds from the connection attempt to the first frame.
            stall_s: Seconds without a frame after which it counts as stalled.
            infer_fps: Maximum frames per second that a `Stream` takes; None for no limit.
        """
        super().__init__(name)
        self.open_s = open_s
        self.stall_s = stall_s
        self.infer_fps = infer_fps
        self._plan = plan
        self._stretch = 1.0
        self._connection: Connection | None = None

    def connect(self) -> Connection:
        """Start a process that opens it.

        A source that stalled before its frame interval was known may have a low frame rate, so each time it gets twice
        as long.
        """
        if self._connection is not None:
            self._stretch = 2 * self._stretch if self._connection.has_given_up_early else 1.0
        open_s, stall_s = (max(limit, min(LONGEST_S, limit * self._stretch)) for limit in (self.open_s, self.stall_s))
        # `Connection` ends an attempt after the shorter time, so the process gets the longer one.
        plan = {**self._plan, "timeout_s": max(LONGEST_S, open_s), "input_hw": self.input_hw}
        self._connection = Connection(self.name, plan, open_s=open_s, stall_s=stall_s)
        return self._connection

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.kill()

    def __iter__(self) -> Generator[Frame, None, None]:
        """The newest frame each time, until the source is lost."""
        connection, start = self.connect(), time.monotonic()
        try:
            connection.ask()
            while True:
                try:
                    report, warning = connection.receive(_TICK_S)
                except SourceError as error:
                    if error.code == "ended":
                        return
                    raise
                if warning:
                    logger.warning("%s: %s", self.name, warning)
                if report is not None and report.pixels is not None:
                    age = report.arrived - start
                    yield Frame(report.pixels, report.index, age, self.name, arrived=report.arrived, small=report.small)
                    connection.ask()
        finally:
            connection.close()


def open_network(text: str) -> LiveSource | VideoSource:
    """An RTSP, HTTP, RTMP, SRT or UDP stream; a video file on a web server is read as a file.

    Raises:
        SourceError: If the address is not valid.
        UsageError: If an option is unknown.
    """
    hide(*find_secrets(text))
    known = {
        "transport": "tcp or udp",
        "fps": "5 (of an address that gives single pictures)",
        "decoder": "h264_v4l2m2m (FFmpeg's name of a decoder)",
        "skip": "loopfilter or nonref",
        **LIMITS,
    }
    url, options = split_options(text, known)
    address = parse_url(url)
    hide(*find_secrets(address.url))
    name = redact(url)
    is_web = address.scheme in ("http", "https")
    path = address.url.partition("?")[0].lower()
    if is_web and path.endswith(VIDEO_SUFFIXES):
        if options:
            raise UsageError(f"{name}: a video file takes no options; remove the # and the text after it")
        return VideoSource(address.url, name=name)
    # Measuring the frame rate, which is not used, would take a second.
    settings = {"flags": "low_delay", "fpsprobesize": "0"}
    if address.scheme.startswith("rtsp"):
        settings |= {
            # FFmpeg would discard the data read for probing, which may contain the only key frame
            "fflags": "nobuffer",
            "rtsp_transport": choose_transport(name, options),
            "allowed_media_types": "video",  # FFmpeg would wait for audio that never comes
            # The description states the codecs, so the first packet is enough; the next frame may be far away.
            "probesize": "32",
        }
    plan = {
        "kind": "network",
        "url": address.url,
        "host": address.host,
        "port": address.port,
        "options": settings,
        "is_web": is_web and not path.endswith(PLAYLIST_SUFFIXES),
        "fps": parse_rate(options["fps"]) if "fps" in options else None,
        **parse_decoding(options),
    }
    return LiveSource(name, plan, **parse_limits(options))


PLAYLIST_SUFFIXES = (".m3u8", ".mpd")
"""Suffixes of web addresses that FFmpeg reads itself."""


def parse_limits(options: Mapping[str, str]) -> dict[str, float]:
    """Timeouts for opening and between frames, and the frame rate limit, from the options."""
    names = {"open": "open_s", "stall": "stall_s"}
    limits = {name: parse_seconds(key, options[key]) for key, name in names.items() if key in options}
    if "infer" in options:
        limits["infer_fps"] = parse_rate(options["infer"], key="infer")
    return limits


def parse_decoding(options: Mapping[str, str]) -> dict[str, str]:
    """Decoder of a stream, and steps that it skips; "" for the defaults."""
    decoder, skip = options.get("decoder", ""), options.get("skip", "")
    if not re.fullmatch(r"\w*", decoder):
        raise UsageError(f"decoder={decoder}: expected FFmpeg's name of a decoder, such as h264_v4l2m2m")
    if skip not in ("", "loopfilter", "nonref"):
        raise UsageError(f"skip={skip}: expected loopfilter or nonref")
    return {"decoder": decoder, "skip": skip}


def choose_transport(name: str, options: Mapping[str, str]) -> str:
    """ "tcp" or "udp"; udp with a warning."""
    transport = options.get("transport", "tcp")
    if transport not in ("tcp", "udp"):
        raise UsageError(f"transport={transport}: expected tcp or udp")
    if transport == "udp":
        logger.warning("%s: over UDP, a lost packet damages frames until the next key frame; TCP is safer", name)
    return transport


def open_camera(text: str) -> LiveSource:
    """A camera of this machine, by number or device file.

    Raises:
        UsageError: If an option is unknown.
    """
    known = {"size": "1280x720", "fps": "30", "format": "MJPG", **LIMITS}
    device, options = split_options(text, known)
    pixels = options.get("format", "").upper()
    if len(pixels) not in (0, 4):
        raise UsageError(f"format={pixels}: expected a FourCC such as MJPG or YUYV; see v4l2-ctl --list-formats-ext")
    plan = {"kind": "camera", "device": int(device) if device.isdigit() else device, "format": pixels}
    return LiveSource(f"camera {device}", plan | parse_mode(options), **parse_limits(options))


def open_picamera(text: str) -> LiveSource:
    """A CSI camera of a Raspberry Pi."""
    number, options = parse_numbered(text)
    plan = {"kind": "picamera", "device": number} | parse_mode(options)
    return LiveSource(f"picamera {number}", plan, **parse_limits(options))


def open_csi(text: str) -> LiveSource:
    """A CSI camera of a Jetson.

    Raises:
        SourceError: If this OpenCV has no GStreamer.
    """
    number, options = parse_numbered(text)
    mode = parse_mode(options)
    height, width = mode["size_hw"] or (720, 1280)
    rate = round(mode["fps"] or 30)
    return open_gstreamer(
        f"nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM), width={width}, height={height}, "
        f"framerate={rate}/1 ! nvvidconv ! video/x-raw, format=BGRx",
        name=f"csi {number}",
        limits=parse_limits(options),
    )


def open_gstreamer(pipeline: str, *, name: str = "", limits: Mapping[str, float] | None = None) -> LiveSource:
    """A GStreamer pipeline; a sink for OpenCV is appended if it has none.

    Args:
        pipeline: As for `gst-launch-1.0`.
        name: Name in messages; the pipeline itself without passwords by default.
        limits: `open_s` and `stall_s` of `LiveSource`.

    Raises:
        SourceError: If this OpenCV has no GStreamer.
    """
    if not has_gstreamer(cv2.getBuildInformation()):
        raise SourceError(
            f"{name or redact(pipeline)}: this OpenCV is built without GStreamer; use the python3-opencv of JetPack "
            "or Debian in a venv with --system-site-packages, or an rtsp:// or /dev/video source",
            code="no-driver",
        )
    hide(*find_secrets(pipeline))
    name = name or redact(pipeline)
    if "appsink" not in pipeline:
        pipeline += " ! videoconvert ! video/x-raw, format=BGR ! appsink drop=true max-buffers=1 sync=false"
    return LiveSource(name, {"kind": "gstreamer", "pipeline": pipeline}, **(limits or {}))


def has_gstreamer(build_information: str) -> bool:
    """Whether OpenCV's build information contains GStreamer; its list of backends names it in any case."""
    return re.search(r"GStreamer:\s+YES", build_information) is not None


def parse_numbered(text: str) -> tuple[int, dict[str, str]]:
    """Number and options of "csi://0#fps=30"."""
    address, options = split_options(text, {"size": "1280x720", "fps": "30", **LIMITS})
    number = address.partition("://")[2] or "0"
    if not number.isdigit():
        raise UsageError(f"{text}: expected the number of a camera, such as {address.partition('://')[0]}://0")
    return int(number), options


def parse_mode(options: Mapping[str, str]) -> dict[str, Any]:
    """Requested size and rate of a camera, None for its own choice."""
    return {
        "size_hw": list(parse_size(options["size"])) if "size" in options else None,
        "fps": parse_rate(options["fps"]) if "fps" in options else None,
    }
