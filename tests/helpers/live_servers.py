"""Servers for a running camera loop on loopback: an MQTT broker and its listener, a receiver of webhooks."""

from __future__ import annotations

import email
import http.server
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
needs_broker = pytest.mark.skipif(not MOSQUITTO, reason="needs mosquitto")


def wait_for(condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    """Return as soon as a condition holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def decode_jpeg(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a JPEG."""
    assert data[:2] == b"\xff\xd8"
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


class Broker:
    """A mosquitto with a user and a password."""

    def __init__(self, folder: Path, password: str = "p@ss/w") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        subprocess.run([shutil.which("mosquitto_passwd"), "-b", passwords, "cam", password], check=True)
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
        )
        self.start()

    @property
    def url(self) -> str:
        return f"mqtt://cam:p%40ss%2Fw@127.0.0.1:{self.port}/site"

    def start(self) -> None:
        self.process = subprocess.Popen([MOSQUITTO, "-c", self._config], stderr=subprocess.DEVNULL)

        def is_open():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait_for(is_open)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(10)


class Listener:
    """A client that subscribes to everything."""

    def __init__(self, broker: Broker, password: str = "p@ss/w") -> None:
        self.seen: dict[str, list[str]] = defaultdict(list)
        """Topic -> messages; bytes that are no text are kept as surrogates."""
        from paho.mqtt import client as paho

        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.username_pw_set("cam", password)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_message = lambda client, data, message: self.seen[message.topic].append(
            message.payload.decode(errors="surrogateescape")
        )
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def last(self, topic):
        return self.seen[topic][-1] if self.seen[topic] else None

    def last_picture(self, topic):
        """(H, W, 3) uint8 RGB; None before there is one."""
        text = self.last(topic)
        return None if text is None else decode_jpeg(text.encode(errors="surrogateescape"))

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def read_parts(kind: str, body: bytes) -> dict[str, bytes]:
    """The parts of a form by name, as Python's parser of mail reads them; a body that is none is its "event"."""
    if not kind.startswith("multipart/form-data"):
        return {"event": body}
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    parts = {}
    for part in message.get_payload():
        parts[part.get_param("name", header="content-disposition")] = part.get_payload(decode=True)
    return parts


class Receiver(http.server.ThreadingHTTPServer):
    """A server that records requests and responds as configured."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[dict[str, str], dict]] = []
        self.pictures: list[np.ndarray] = []
        self.sizes: list[int] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                parts = read_parts(self.headers["Content-Type"], body)
                receiver.requests.append((dict(self.headers), json.loads(parts["event"])))
                if "snapshot" in parts:
                    receiver.pictures.append(decode_jpeg(parts["snapshot"]))
                receiver.sizes.append(len(body))
                code = receiver.answers.pop(0) if receiver.answers else 200
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"
