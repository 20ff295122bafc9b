"""The page over real HTTP on loopback: access, contents and settings, and that viewers cannot slow the loop."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections import Counter

import cv2
import numpy as np
import pytest
from live_servers import wait_for
from live_site import SIZE_HW, Moving, running, start_thread

from edge_mrcnn.live import access
from edge_mrcnn.live.access import Access, Address, Viewers, parse_address
from edge_mrcnn.live.pictures import PictureEncoder, encode
from edge_mrcnn.live.web import MAX_CONNECTIONS
from runtimes import UsageError
from runtimes.errors import UnavailableError

TOKEN = "correct horse"
GUARD = {"X-Edge-MRCNN": "1", "Content-Type": "application/json"}


def call(run, path, *, method="GET", body=None, **headers):
    """Status, headers and body of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", run.server.address.port, timeout=10)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    payload = None if body is None else json.dumps(body)
    connection.request(method, path, payload, {**(GUARD if method == "POST" else {}), **names})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content


def post(run, path, body, **headers):
    return call(run, path, method="POST", body=body, **headers)


def read_state(run, **headers):
    return json.loads(call(run, "/api/state", **headers)[2])


@pytest.fixture(scope="module")
def run():
    with running() as run:
        wait_for(lambda: len(run.frames) > 5)
        yield run


@pytest.fixture(scope="module")
def locked():
    with running(token=TOKEN) as run:
        wait_for(lambda: len(run.frames) > 5)
        yield run


class TestWhatIsShown:
    def test_state_of_each_source(self, run):
        state = read_state(run)
        source = state["sources"][0]
        assert (source["name"], source["state"], source["size"]) == ("door", "live", list(SIZE_HW))
        assert source["received"] >= source["processed"] + sum(source["dropped"].values()) > 0
        assert source["objects"] == {"cup": 1, "bottle": 1} and state["ok"]
        assert set(source["stages"]) == {"preprocess", "inference", "postprocess", "end_to_end"}
        assert all(0 <= stage["p50"] <= stage["p90"] for stage in source["stages"].values())

    @pytest.mark.parametrize(("size", "side"), [("large", 320), ("small", 320)])
    def test_picture_shows_the_objects(self, run, size, side):
        status, headers, jpeg = call(run, f"/picture.jpg?size={size}")
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (180, side, 3) and picture.std() > 10

    def test_picture_comes_with_the_counts_of_its_own_frame(self, run, monkeypatch):
        monkeypatch.setattr(run.site.monitor, "objects", lambda source: Counter(cup=7))  # of a newer frame
        _, headers, _ = call(run, "/picture.jpg")
        assert read_state(run)["sources"][0]["objects"] == {"cup": 7}
        shown = json.loads(headers["X-Shown"])
        assert shown["objects"] == {"cup": 1, "bottle": 1} and shown["counts"] == {"lines": {}, "zones": {}}

    def test_each_next_picture_is_a_newer_one(self, run):
        numbers = [0]
        for _ in range(4):
            numbers.append(int(call(run, f"/picture.jpg?after={numbers[-1]}")[1]["X-Number"]))
        assert numbers == sorted(set(numbers))

    def test_mjpeg_for_other_programs(self, run):
        connection = http.client.HTTPConnection("127.0.0.1", run.server.address.port, timeout=10)
        connection.request("GET", "/stream.mjpg")
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
        for _ in range(3):
            assert response.readline() == b"--frame\r\n"
            head = [response.readline() for _ in range(3)]
            jpeg = response.read(int(head[1].split(b":")[1]) + 2)
            assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) is not None
        connection.close()

    def test_page_needs_nothing_from_elsewhere_and_forbids_it(self, run):
        for path in ("/", "/app.js", "/style.css", "/icon.svg"):
            status, headers, body = call(run, path)
            assert status == 200
            assert b"http" not in body.replace(b"http://www.w3.org/2000/svg", b"")
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
            assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
            assert "Python" not in headers["Server"]

    def test_nothing_is_encoded_without_viewers(self, run, monkeypatch):
        encoded = []
        monkeypatch.setattr("edge_mrcnn.live.pictures.encode", lambda *a: encoded.append(1) or encode(*a))
        wait_for(lambda: all(time.monotonic() - s.looked_s > 3.2 for s in run.site.encoder._slots.values()))
        encoded.clear()
        count = len(run.frames)
        wait_for(lambda: len(run.frames) > count + 10)
        assert not encoded
        call(run, "/picture.jpg")
        assert encoded


class TestChanges:
    def test_threshold_changes_what_counts(self, run):
        assert post(run, "/api/conf", {"conf": 0.3})[0] == 200
        wait_for(lambda: read_state(run)["sources"][0]["objects"] == {"cup": 2, "bottle": 1})
        post(run, "/api/conf", {"conf": 0.5})
        wait_for(lambda: read_state(run)["sources"][0]["objects"] == {"cup": 1, "bottle": 1})

    def test_pause_stops_the_frames_and_is_healthy(self, run):
        assert post(run, "/api/pause", {"source": 0, "paused": True})[0] == 200
        wait_for(lambda: read_state(run)["sources"][0]["state"] == "paused")
        assert call(run, "/healthz")[0] == 200
        post(run, "/api/pause", {"source": 0, "paused": False})
        count = len(run.frames)
        wait_for(lambda: len(run.frames) > count + 3)

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/api/conf", {"conf": 1.5}), ("/api/conf", {"conf": "0.5"}), ("/api/conf", {"conf": True}),
            ("/api/conf", [0.5]), ("/api/conf", {"conf": float("nan")}), ("/api/pause", {"source": 0, "paused": 1}),
        ],
    )  # fmt: skip
    def test_nonsense_is_refused(self, run, path, body):
        assert post(run, path, body)[0] == 400

    @pytest.mark.parametrize("source", [1, -1, "door", "rtsp://evil/", None, "0/../1"])
    def test_only_sources_of_the_stream_can_be_named(self, run, source):
        assert post(run, "/api/pause", {"source": source, "paused": True})[0] == 404
        assert call(run, f"/picture.jpg?source={source}")[0] == 404

    def test_a_change_needs_the_header_that_forms_cannot_send(self, run):
        for headers in ({"X_Edge_MRCNN": ""}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            assert post(run, "/api/conf", {"conf": 0.9}, **headers)[0] == 403
        assert call(run, "/api/conf?conf=0.9")[0] == 405
        assert run.site.controls.conf == 0.5
        own = f"http://127.0.0.1:{run.server.address.port}"
        assert post(run, "/api/conf", {"conf": 0.5}, Origin=own)[0] == 200

    def test_a_large_body_is_refused_unread(self, run):
        assert post(run, "/api/conf", {"conf": "x" * 5000})[0] == 413

    @pytest.mark.parametrize("path", ["/../etc/passwd", "/page/app.js", "/api/source", "/api/run", "/%2e%2e/x"])
    def test_there_is_no_other_path(self, run, path):
        assert call(run, path)[0] == 404
        assert post(run, path, {})[0] == 404


class TestAccess:
    @pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[evil]"])
    def test_foreign_host_names_are_refused(self, run, host):
        assert call(run, "/api/state", Host=host)[0] == 421

    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:1", "127.0.0.1:80", "192.168.1.5", "[::1]:8080", "LOCALHOST"]
    )
    def test_own_names_and_numbers_are_served(self, run, host):
        assert call(run, "/api/state", Host=host)[0] == 200

    def test_without_the_token_only_the_empty_page_and_the_bare_health_are_open(self, locked):
        assert call(locked, "/")[0] == 200
        assert json.loads(call(locked, "/healthz")[2]) == {"ok": True}
        for path in ("/api/state", "/metrics", "/picture.jpg", "/stream.mjpg"):
            assert call(locked, path)[0] == 401
        assert post(locked, "/api/conf", {"conf": 0.1})[0] == 401
        assert locked.site.controls.conf == 0.5

    def test_bearer_token_opens_everything(self, locked):
        assert call(locked, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert "why" in json.loads(call(locked, "/healthz", Authorization=f"Bearer {TOKEN}")[2])
        assert call(locked, "/metrics", Authorization="Bearer correct hors")[0] == 401

    def test_login_gives_a_session_that_scripts_cannot_read(self, locked):
        status, headers, _ = post(locked, "/api/login", {"token": TOKEN})
        cookie = headers["Set-Cookie"]
        assert status == 200 and TOKEN not in cookie
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert call(locked, "/api/state", Cookie=cookie.partition(";")[0])[0] == 200
        assert call(locked, "/api/state", Cookie="edge_mrcnn_session=guess")[0] == 401

    def test_guessing_is_slowed_down(self):
        now = [0.0]
        gate = Access(Address("127.0.0.1", 1), TOKEN, clock=lambda: now[0])
        assert [gate.is_token("wrong", "a") for _ in range(11)] == [False] * 10 + [None]
        assert gate.is_token(TOKEN, "a") is None and gate.is_token(TOKEN, "b") is True
        now[0] = 61.0
        assert gate.is_token(TOKEN, "a") is True

    def test_tokens_are_compared_in_constant_time(self, monkeypatch):
        compared = []
        monkeypatch.setattr(access.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
        Access(Address("127.0.0.1", 1), TOKEN).is_token("wrong", "a")
        assert compared == [(b"wrong", TOKEN.encode())]

    def test_sessions_end_and_are_few(self):
        now = [0.0]
        gate = Access(Address("127.0.0.1", 1), TOKEN, clock=lambda: now[0])
        sessions = [gate.open_session() for _ in range(70)]
        assert not gate.is_session(sessions[0]) and gate.is_session(sessions[-1])
        now[0] = access.SESSION_S + 1
        assert not gate.is_session(sessions[-1])

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "camera.local"])
    def test_an_address_that_others_reach_needs_a_token(self, host):
        with pytest.raises(UsageError, match="needs --web-token"):
            Access(Address(host, 8080))
        with pytest.raises(UsageError, match="8 or more characters"):
            Access(Address(host, 8080), "short")
        assert Access(Address(host, 8080), TOKEN).needs_token

    @pytest.mark.parametrize(
        ("text", "address"),
        [
            (":8080", ("127.0.0.1", 8080)), ("8080", ("127.0.0.1", 8080)), ("0.0.0.0:80", ("0.0.0.0", 80)),
            ("[::1]:8080", ("::1", 8080)), ("pi.local:8080", ("pi.local", 8080)),
        ],
    )  # fmt: skip
    def test_addresses_are_understood(self, text, address):
        assert parse_address(text) == address

    @pytest.mark.parametrize("text", ["", "host", ":99999", "a b:80", "[::1:80", "http://host:80/"])
    def test_other_addresses_are_usage_errors(self, text):
        with pytest.raises(UsageError, match="expected"):
            parse_address(text)

    def test_a_port_in_use_is_a_usage_error(self, run):
        with pytest.raises(UnavailableError, match="choose another port"), running() as other:
            type(other.server)(run.server.address, other.site)


def test_the_end_of_the_server_is_the_end_of_open_connections():
    with running() as run:
        connection = http.client.HTTPConnection("127.0.0.1", run.server.address.port, timeout=5)
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.request("GET", "/healthz")
        connection.getresponse()
    connection.close()


class TestManyAndSlowViewers:
    def test_four_viewers_are_served(self):
        now = [0.0]
        viewers = Viewers(clock=lambda: now[0])
        assert [viewers.admit(name) for name in "abcdeabcd"] == [True] * 4 + [False] + [True] * 4
        now[0] = 6.0
        assert viewers.admit("e") and viewers.count == 1

    def test_the_fifth_viewer_gets_an_error(self, run):
        for number in range(4):
            call(run, f"/picture.jpg?viewer=v{number}")
        status, _, body = call(run, "/picture.jpg?viewer=v4")
        assert status == 503 and b"viewers" in body
        run.site.viewers._seen_s.clear()

    def test_a_viewer_that_reads_nothing_is_dropped_and_does_not_slow_the_loop(self, monkeypatch):
        monkeypatch.setattr("edge_mrcnn.live.web.PageHandler.timeout", 0.5)
        with running({"door": Moving("door", fps=30)}) as run:
            wait_for(lambda: len(run.frames) > 15)
            quiet = np.diff(run.frames[5:]).mean()
            stuck = socket.create_connection(("127.0.0.1", run.server.address.port))
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            monkeypatch.setattr("edge_mrcnn.live.pictures.encode", lambda *_: bytes(4_000_000))
            stuck.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_for(lambda: run.site.viewers.count == 1)
            since = len(run.frames)
            wait_for(lambda: run.site.viewers.count == 0)
            wait_for(lambda: len(run.frames) > since + 20)
            assert np.diff(run.frames[since:]).mean() < 1.5 * quiet + 0.01
            stuck.close()

    def test_a_flood_of_connections_leaves_the_loop_alone(self, run):
        flood = [socket.create_connection(("127.0.0.1", run.server.address.port)) for _ in range(60)]
        since = len(run.frames)
        wait_for(lambda: len(run.frames) > since + 10)
        assert sum(t.name.startswith("Thread") and t.is_alive() for t in threading.enumerate()) < 60
        for connection in flood:
            connection.close()
        wait_for(lambda: call(run, "/healthz")[0] == 200)

    def test_slow_connections_do_not_block_others(self, run):
        slow = [socket.create_connection(("127.0.0.1", run.server.address.port)) for _ in range(MAX_CONNECTIONS + 8)]
        for path in ("/healthz", "/", "/api/state"):
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.sendall(b"G")
            start = time.monotonic()
            assert call(run, path)[0] == 200
            assert time.monotonic() - start < 2
        for connection in slow:
            connection.close()

    def test_a_request_as_a_whole_has_a_limit(self, run, monkeypatch):
        monkeypatch.setattr("edge_mrcnn.live.web.REQUEST_S", 1.0)
        slow = socket.create_connection(("127.0.0.1", run.server.address.port))
        slow.settimeout(0.2)
        start = time.monotonic()
        while time.monotonic() - start < 8:
            try:
                slow.sendall(b"G")
                if slow.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert 0.8 < time.monotonic() - start < 4
        slow.close()

    def test_a_viewer_without_end_is_not_taken_for_slow(self, run, monkeypatch):
        monkeypatch.setattr("edge_mrcnn.live.web.REQUEST_S", 0.5)
        with socket.create_connection(("127.0.0.1", run.server.address.port)) as viewer:
            viewer.settimeout(3)
            viewer.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            end = time.monotonic() + 2
            while time.monotonic() < end:
                assert viewer.recv(65536)
        run.site.viewers._seen_s.clear()


class TestHead:
    @pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/api/state", "/stream.mjpg"])
    def test_response_has_the_headers_and_no_body(self, run, path):
        connection = http.client.HTTPConnection("127.0.0.1", run.server.address.port, timeout=5)
        connection.request("HEAD", path)
        response = connection.getresponse()
        assert response.status == 200 and response.read() == b"" and response.headers["Content-Type"]
        connection.close()
        run.site.viewers._seen_s.clear()

    def test_is_refused_where_get_is(self, run):
        for path, status in (("/none", 404), ("/api/conf", 405)):
            connection = http.client.HTTPConnection("127.0.0.1", run.server.address.port, timeout=5)
            connection.request("HEAD", path)
            assert connection.getresponse().status == status
            connection.close()


def test_viewers_of_a_source_without_frames_do_not_wake_each_other():
    encoder = PictureEncoder(start_thread)
    waits, wait = [], encoder._changed.wait

    def count(timeout=None):
        waits.append(timeout)
        return wait(timeout)

    encoder._changed.wait = count
    viewers = [threading.Thread(target=encoder.wait, args=("door", "large", 0, 0.5)) for _ in range(3)]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join()
    encoder.close()
    assert len(waits) < 30
