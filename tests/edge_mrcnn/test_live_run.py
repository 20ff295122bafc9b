"""`run` as a process with page, broker, webhook and counting: no secret in any output, and a quick end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from live_servers import Broker, Listener, Receiver, needs_broker, wait_for

from edge_mrcnn.cli import group

SECRETS = ("p@ss/w", "p%40ss", "p@ss%2Fw", "hushhush", "path-t0ken", "open sesame", "br0ker", "hook-s3cret")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read_all(channel: socket.socket) -> list[str]:
    """Lines of all datagrams that wait; the socket is closed."""
    lines = []
    with channel:
        while True:
            try:
                lines += channel.recv(4096).decode().splitlines()
            except BlockingIOError:
                return lines


class Camera:
    """`edge-mrcnn run` in a process of its own."""

    def __init__(self, folder: Path, config: str, *arguments: str, **environment: str) -> None:
        path = folder / "cam.toml"
        path.write_text(config)
        path.chmod(0o600)
        self._log = folder / "log"
        command = [sys.executable, "-m", "edge_mrcnn", *arguments, "run", "--config", str(path)]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text()

    def processes(self) -> list[str]:
        """Command lines of the process and everything below it."""
        lines = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in lines.splitlines()[1:]]
        family = {str(self.process.pid)}
        for pid, parent, _ in sorted(rows, key=lambda row: int(row[0])):
            if parent in family:
                family.add(pid)
        return [arguments for pid, _, arguments in rows if pid in family]

    def end(self) -> float:
        """Send SIGTERM and return the seconds until the end."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.log
        return time.monotonic() - start


def ask(port, path, token="open sesame"):
    """Status and text of a response of the page; None if there is no page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except OSError:
        return None
    finally:
        connection.close()


@needs_broker
def test_secrets_are_nowhere_and_the_end_is_quick(model_files, tmp_path):
    broker, receiver = Broker(tmp_path, password="br0ker"), Receiver()
    listener = Listener(broker, password="br0ker")
    port, closed = free_port(), free_port()
    config = f"""
        model = "{model_files[".onnx"]}"
        source = [
            "door=synthetic#fps=10",
            "rtsp://first.last:p@ss/w@127.0.0.1:{closed}/live",
            "yard=rtsp://first.last:p%40ss%2Fw@127.0.0.1:{closed}/live",
            "http://127.0.0.1:{receiver.server_address[1]}/video?password=hushhush&fps=5",
            "env:GARAGE",
        ]
        wait = true
        conf = 0.0
        line = "gate=0,0.5,1,0.5"
        web = ":{port}"
        web-token = "env:PAGE_TOKEN"
        mqtt = "mqtt://cam:br0ker@127.0.0.1:{broker.port}/site"
        webhook = "http://cam:hook-s3cret@{receiver.address}/services/path-t0ken"
        json = "{tmp_path}/out.jsonl"
        coco = "{tmp_path}/out.json"
        log-level = "debug"
    """
    garage = f"rtsp://us.er:p@ss/w@127.0.0.1:{closed}/garage"
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.setblocking(False)
    service = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
    camera = Camera(tmp_path, config, GARAGE=garage, PAGE_TOKEN="open sesame", **service)
    try:
        wait_for(lambda: (ask(port, "/healthz") or [0])[0] == 200 or camera.process.poll() is not None, 90)
        assert camera.process.poll() is None, camera.log
        words = ("nothing listens", "an internal error")
        wait_for(lambda: all(word in ask(port, "/api/state")[1] for word in words), 60)
        wait_for(lambda: listener.last("site/door/state") and receiver.requests)
        time.sleep(1)
        texts = {path: ask(port, path)[1] for path in ("/", "/healthz", "/metrics", "/api/state")}
        texts["processes"] = "\n".join(camera.processes())
        assert ask(port, "/metrics", token="wrong")[0] == 401
        seconds = camera.end()
        wait_for(lambda: listener.last("site/status") == "stopped")
    finally:
        camera.process.kill()
        camera.process.wait(10)
        listener.close()
        broker.stop()
        receiver.shutdown()
        receiver.server_close()
    texts["log"] = camera.log
    texts["records"] = (tmp_path / "out.jsonl").read_text() + (tmp_path / "out.json").read_text()
    texts["messages"] = json.dumps(listener.seen)
    texts["events"] = json.dumps([body for _, body in receiver.requests if body])
    found = [(where, secret) for where, text in texts.items() for secret in SECRETS if secret in text]
    assert not found
    assert "first.last" in texts["/api/state"] and "127.0.0.1-live" in texts["messages"]
    assert json.loads((tmp_path / "out.json").read_text())
    notified = [line for line in read_all(manager) if not line.startswith("STATUS=")]
    assert notified[:2] == ["READY=1", "WATCHDOG=1"] and notified[-1] == "STOPPING=1"
    assert seconds < 6


def test_crashes_are_printed_without_secrets():
    code = """
import logging, threading
from edge_mrcnn.live.logs import set_up_logs
set_up_logs("debug")
URL = "://first.last:p@ss/w@host/live"
def fail():
    raise OSError("cannot open rtsp" + URL)
thread = threading.Thread(target=fail)
thread.start()
thread.join()
try:
    fail()
except OSError:
    logging.getLogger("x").exception("failed")
fail()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("OSError: cannot open rtsp://first.last:***@host/live") == 3
    assert done.stderr.count("Traceback") == 3 and "p@ss" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ([], "WARNING"),
        (["-v"], "INFO"),
        (["-vv"], "DEBUG"),
        (["-q"], "ERROR"),
        (["-v", "--log-level", "error"], "ERROR"),
    ],
)
def test_log_levels(flags, level, monkeypatch):
    chosen = []
    monkeypatch.setattr("edge_mrcnn.cli.set_up_logs", chosen.append)
    CliRunner().invoke(group, [*flags, "run", "--help"])
    assert chosen == [level.lower()]
