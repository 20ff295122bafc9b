"""Network streams: JPEG images over HTTP with `mjpeg`, all others with FFmpeg, through PyAV or OpenCV without it."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Any

from .camera import read_capture
from .mjpeg import UsualEnd, read_web
from .outlet import Outlet, Trouble
from .scaling import Scaler
from .shots import AvShot

PROBE_S = 3.0
"""Timeout for a TCP connection, in seconds."""
SEGMENT_S = 6.0
"""Recommended segment length of HLS (RFC 8216bis, appendix B.1): no data comes for this long."""
MOST_AHEAD_S = 60.0
"""A frame further ahead than this many seconds belongs to a clock that jumped."""


def read_network(plan: dict[str, Any], outlet: Outlet) -> None:
    """An RTSP, HTTP, RTMP, SRT or UDP stream."""
    probe(plan["host"], plan["port"])
    outlet.tell(is_ready=True)
    if plan["is_web"] and read_web(plan, outlet):
        return
    try:
        import av
    except ModuleNotFoundError:
        _read_with_opencv(plan, outlet)
        return
    options = dict(plan["options"])
    try:
        _read_with_pyav(av, plan, options, outlet)
    except Exception as error:
        if not _refuses_tcp(error, options):
            raise _explain(error) from None
        outlet.tell(warning="the camera rejects TCP, so UDP is used; #transport=udp skips the first attempt")
        _read_with_pyav(av, plan, {**options, "rtsp_transport": "udp"}, outlet)


def _read_with_pyav(av: Any, plan: dict[str, Any], options: dict[str, str], outlet: Outlet) -> None:
    limit = plan["timeout_s"]
    with av.open(plan["url"], options=options, timeout=(limit, limit)) as container:
        _decode(av, container, plan, outlet)


def _decode(av: Any, container: Any, plan: dict[str, Any], outlet: Outlet) -> None:
    """Decode the first video of an open container, frame by frame; damaged frames are counted and skipped."""
    video = _choose_video(container)
    decoder = choose_decoder(av, video, plan["decoder"], plan["skip"])
    ends = UsualEnd() if video.codec_context.name == "mjpeg" else None
    clock = _choose_clock(container, outlet)
    scaler = Scaler(av)
    for packet in container.demux(video):
        outlet.hear()
        if ends and packet.size and not ends.is_whole(_has_jpeg_end(packet)):
            outlet.damaged()
            continue
        try:
            frames = decoder.decode(packet if packet.size else None)
        except av.error.InvalidDataError:
            outlet.damaged()
            continue
        for frame in frames:
            if frame.is_corrupt:
                outlet.damaged()
                continue
            if clock is not None:
                clock.wait(frame.time)
            outlet.put(AvShot(frame, scaler))
    if container.duration:
        raise Trouble("ended", "the recording has ended")


def _choose_video(container: Any) -> Any:
    """The first video of a container that can be decoded."""
    if not container.streams.video:
        raise Trouble("no-video", "there is no video in this stream")
    video = container.streams.video[0]
    if getattr(video, "codec_context", None) is None:
        raise Trouble("no-codec", "this FFmpeg cannot decode the video's codec")
    return video


def choose_decoder(av: Any, video: Any, name: str, skip: str) -> Any:
    """The codec context for decoding a video.

    Args:
        av: The package PyAV.
        video: The stream.
        name: FFmpeg's name of a decoder, such as "h264_v4l2m2m"; "" for the default.
        skip: "loopfilter", "nonref" or "": steps that are skipped.

    Raises:
        Trouble: If there is no such decoder, or its hardware is missing.
    """
    decoder = video.codec_context
    if name:
        try:
            decoder = av.CodecContext.create(name, "r")
            decoder.extradata = video.codec_context.extradata
            decoder.open()
        except (av.error.FFmpegError, ValueError) as error:
            reason = f"{name} cannot be opened here ({type(error).__name__}); without #decoder= the CPU decodes"
            raise Trouble("no-codec", reason) from None
    else:
        decoder.thread_type = "SLICE"  # frame threading would delay frames
    if skip == "loopfilter":
        decoder.options = {"skip_loop_filter": "all"}
    elif skip == "nonref":
        decoder.skip_frame = "NONREF"
    return decoder


class _Clock:
    """Holds frames back until their time, for sources that send faster than real time: a recording, or HLS segments."""

    def __init__(self) -> None:
        self._offset_s: float | None = None

    def wait(self, time_s: float | None) -> None:
        """Return when a frame of this time of the stream, in seconds, is due."""
        if time_s is None:
            return
        now = time.monotonic()
        if self._offset_s is None:
            self._offset_s = now - time_s
        due = self._offset_s + time_s
        if abs(due - now) > MOST_AHEAD_S:  # the clock of the stream jumped
            self._offset_s, due = now - time_s, now
        time.sleep(max(0.0, due - now))


def _choose_clock(container: Any, outlet: Outlet) -> _Clock | None:
    """A clock for streams that come in bursts; a camera needs none, because its frames come when they are taken."""
    is_segmented = container.format.name in ("hls", "dash")
    if is_segmented:
        outlet.tell(pace_s=SEGMENT_S)
    return _Clock() if is_segmented or container.duration else None


def _has_jpeg_end(packet: Any) -> bool:
    return bytes(memoryview(packet)[-64:]).rstrip(b"\0").endswith(b"\xff\xd9")


def _refuses_tcp(error: Exception, options: dict[str, str]) -> bool:
    """Whether a camera requires UDP, status 461 (RFC 2326, section 11.3.13)."""
    return options.get("rtsp_transport") == "tcp" and getattr(error, "errno", None) == errno.EPROTONOSUPPORT


def _read_with_opencv(plan: dict[str, Any], outlet: Outlet) -> None:
    """The same stream through OpenCV, which reports no reasons."""
    options = "|".join(f"{key};{value}" for key, value in plan["options"].items())
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = options
    import cv2

    limit = int(1000 * plan["timeout_s"])
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    read_capture(cv2.VideoCapture(plan["url"], cv2.CAP_FFMPEG, limits), outlet, _UNKNOWN)


_UNKNOWN = "cannot be opened; check address, user name and password (for details: pip install av)"


def probe(host: str, port: int | None) -> None:
    """Check that something listens at the address, before any expensive step."""
    if port is None:
        return
    try:
        socket.create_connection((host, port), PROBE_S).close()
    except socket.gaierror:
        raise Trouble(
            "unknown-host", "host not found; check its name, and in a password write / as %2F and @ as %40"
        ) from None
    except ConnectionRefusedError:
        raise Trouble("refused", f"nothing listens at port {port}; check that the camera's server is on") from None
    except OSError:
        raise Trouble("unreachable", "the host does not respond; check that it is on and in this network") from None


_REASONS = {
    "Unauthorized": ("unauthorised", "the server rejects this user name and password"),
    "Forbidden": ("unauthorised", "the server rejects this user name and password"),
    "ProtocolNotFound": ("no-codec", "this FFmpeg does not support this type of address"),
    "DecoderNotFound": ("no-codec", "this FFmpeg cannot decode the video's codec"),
    "NotFound": ("not-found", "the server responds, but has no such stream"),
    "HTTPServer": ("unreadable", "the server responds with an internal error; the camera may still be starting"),
    "BadRequest": ("not-found", "the server responds, but rejects the request"),
    "ConnectionRefused": ("refused", "nothing listens at this address and port"),
    "InvalidData": ("not-a-stream", "the server responds, but not with a video"),
    "EOF": ("lost", "the stream ended"),
    "Exit": ("silent", "no response or no frame in time"),
    "Timeout": ("silent", "no response or no frame in time"),
    "Connection": ("lost", "the connection was lost"),
    "BrokenPipe": ("lost", "the connection was lost"),
}
"""Part of the name of a PyAV error -> code and message. Its text contains the address, and is not used."""


def _explain(error: Exception) -> Trouble:
    """A PyAV error as our error."""
    if isinstance(error, Trouble):
        return error
    kind = type(error).__name__
    known = (reason for key, reason in _REASONS.items() if key in kind)
    number = getattr(error, "errno", None) or 0
    if number == errno.EIO:
        return Trouble(
            "not-a-stream", "the response ended before the first image; check that this is the address of a video"
        )
    reason = os.strerror(number) if 0 < number < 200 else kind
    return Trouble(*next(known, ("unreadable", f"cannot be read: {reason}")))
