"""Servers on 127.0.0.1 that send pictures, with faults on request. Every picture carries the time at which it was
sent."""

from __future__ import annotations

import base64
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

CELLS, CELL_ROWS = 32, 16
RTSP_PROGRAM = Path(__file__).with_name("rtsp_server.py")


def stamp(image: np.ndarray) -> np.ndarray:
    """Write the monotonic clock in milliseconds as 32 black and white cells into the top rows, in place."""
    cell = image.shape[1] // CELLS
    bits = int(time.monotonic() * 1000) >> np.arange(CELLS) & 1
    image[:CELL_ROWS, : cell * CELLS] = np.repeat(bits * 255, cell)[None, :, None]
    return image


def age_s(image: np.ndarray) -> float:
    """Seconds since a picture was sent, by the stamp in it."""
    cell = image.shape[1] // CELLS
    row = image[CELL_ROWS // 2 - 2 : CELL_ROWS // 2 + 2, : cell * CELLS].mean(axis=(0, 2))
    bits = row.reshape(CELLS, cell)[:, cell // 4 : cell - cell // 4].mean(axis=1) > 127
    sent = int((bits.astype(np.int64) << np.arange(CELLS)).sum())
    return ((int(time.monotonic() * 1000) - sent) & 0xFFFFFFFF) / 1000


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class MjpegServer:
    """JPEG pictures over HTTP, without end. Set `fault` while it runs.

    Faults: "" none; "freeze" stops sending; "cut" sends every third picture cut in half; "close" ends each response;
    "header" sends an endless header.
    """

    def __init__(self, *, size_wh=(320, 240), fps=25.0, login="", port=0):
        self.size_wh, self.fps, self.login = size_wh, fps, login
        self.fault = ""
        self.sent = self.cut = self.requests = 0
        self.is_stopping = False
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{self.login}{'@' * bool(self.login)}127.0.0.1:{self.port}/video"

    def close(self) -> None:
        self.is_stopping = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def respond(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.requests += 1
        secret = "Basic " + base64.b64encode(self.login.encode()).decode()
        if self.login and handler.headers.get("Authorization") != secret:
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", 'Basic realm="camera"')
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        elif handler.path.partition("?")[0] != "/video":
            handler.send_error(404)
        else:
            self.send(handler)

    def send(self, handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        if self.fault == "header":
            while not self.is_stopping and self.fault == "header":
                handler.send_header("X-More", "x" * 100)
                handler.flush_headers()
                time.sleep(0.01)
            return
        handler.end_headers()
        while not self.is_stopping and self.fault != "close":
            time.sleep(1 / self.fps)
            if self.fault != "freeze":
                handler.wfile.write(self.picture())

    def picture(self) -> bytes:
        width, height = self.size_wh
        image = np.full((height, width, 3), 90, np.uint8)
        data = cv2.imencode(".jpg", stamp(image), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
        self.sent += 1
        if self.fault == "cut" and self.sent % 3 == 0:
            self.cut += 1
            data = data[: len(data) // 2]
        return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)

    def _handler(self):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                with suppress(OSError):  # the reader went away
                    server.respond(self)
                self.close_connection = True

            def log_message(self, *_):
                pass

        return Handler


class RtspServer:
    """An RTSP server of its own process: GStreamer's, run by the system's Python."""

    def __init__(self, *, size_wh=(320, 240), fps=25, codec="h264", login="", port=0, is_busy=False, certificate=""):
        self.port = port or free_port()
        self.login = login
        self._scheme = "rtsps" if certificate else "rtsp"
        self._arguments = [f"{size_wh[0]}x{size_wh[1]}", str(fps), codec, login, "busy" * is_busy, str(certificate)]
        self._process: subprocess.Popen | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.login}{'@' * bool(self.login)}127.0.0.1:{self.port}/live"

    def start(self, size_wh=None, codec="") -> None:
        """Start, or start again; returns when it listens."""
        if size_wh:
            self._arguments[0] = f"{size_wh[0]}x{size_wh[1]}"
        self._arguments[2] = codec or self._arguments[2]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self._process = subprocess.Popen(
            ["/usr/bin/python3", str(RTSP_PROGRAM), str(self.port), *self._arguments],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "the RTSP server does not start"

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class SilentServer:
    """Accepts connections and never sends a byte."""

    def __enter__(self):
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(16)
        self.port = self._socket.getsockname()[1]
        return self

    def __exit__(self, *_):
        self._socket.close()


def children(pid: int) -> list[int]:
    """Processes whose parent this is, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == pid and state != "Z":
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


def has_rtsp() -> bool:
    """Whether the system's Python can run GStreamer's RTSP server."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    return (
        sys.platform == "linux"
        and not subprocess.run(
            ["/usr/bin/python3", "-c", probe], capture_output=True, env={"PATH": "/usr/bin:/bin"}
        ).returncode
    )
