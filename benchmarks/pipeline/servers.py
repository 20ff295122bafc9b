"""Cameras on 127.0.0.1 that send a film again and again: `python servers.py KIND PORT FILM`.

`mjpeg` sends JPEG pictures of 720p over HTTP, `raw` sends what a V4L2 camera gives, YUYV of 720p, as uncompressed video
in Matroska. Everything is encoded before the first request, so that a camera costs next to nothing. `rtsp_film.py`, by
the system's Python, sends the H.264 film as it is.
"""

from __future__ import annotations

import http.server
import io
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2

SIZE_WH = (1280, 720)
FPS = 30
KEPT = 30
"""Pictures that are encoded and sent in a circle."""


def read_pictures(film: Path) -> list[Any]:
    """The first frames of the film, (720, 1280, 3) uint8 RGB."""
    with av.open(str(film)) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(KEPT), strict=False)]
    return [cv2.resize(frame.to_ndarray(format="rgb24"), SIZE_WH, interpolation=cv2.INTER_AREA) for frame in frames]


class Pace:
    """Releases frames at the camera's rate."""

    def __init__(self) -> None:
        self._start, self._count = time.monotonic(), 0

    def wait(self) -> None:
        """Wait until the next frame is due."""
        self._count += 1
        time.sleep(max(0.0, self._start + self._count / FPS - time.monotonic()))


def send_mjpeg(film: Path) -> tuple[str, Any]:
    """The content type of the response, and the iterator of its bytes."""
    parts = []
    for picture in read_pictures(film):
        _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
        parts.append(head + data.tobytes() + b"\r\n")

    def body() -> Iterator[bytes]:
        pace = Pace()
        while True:
            for part in parts:
                pace.wait()
                yield part

    return "multipart/x-mixed-replace; boundary=frame", body


def send_raw(film: Path) -> tuple[str, Any]:
    """The same arguments as `send_mjpeg`."""
    pictures = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in read_pictures(film)]
    frames = [picture.reformat(format="yuyv422") for picture in pictures]
    data = [bytes(memoryview(frame.planes[0])) for frame in frames]

    def body() -> Iterator[bytes]:
        out, pace, index = io.BytesIO(), Pace(), 0
        container = av.open(out, "w", format="matroska", options={"live": "1", "flush_packets": "1"})
        stream = container.add_stream("rawvideo", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *SIZE_WH, "yuyv422"
        while True:
            packet = av.Packet(data[index % len(data)])
            packet.stream, packet.time_base = stream, Fraction(1, FPS)
            packet.pts = packet.dts = index
            packet.is_keyframe = True
            container.mux_one(packet)
            pace.wait()
            yield out.getvalue()
            out.seek(0)
            out.truncate()
            index += 1

    return "video/x-matroska", body


KINDS = {"mjpeg": send_mjpeg, "raw": send_raw}


def main() -> None:
    """Serve until killed."""
    kind, port, film = sys.argv[1:4]
    content_type, body = KINDS[kind](Path(film))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            with suppress(OSError):  # the viewer went away
                for part in body():
                    self.wfile.write(part)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
