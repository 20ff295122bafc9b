"""The web page of a running camera: live picture, state, threshold and pause; health and metrics for machines.

The standard library's server, so that the page needs nothing more on the device: a thread per connection, few
connections, a time limit on every read and write. No route takes a source, a path or a command; sources go by number.
A change is a POST with a header that no form of another site can send.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edge_mrcnn.live.access import Access, Address, Viewers
from edge_mrcnn.live.controls import Controls
from edge_mrcnn.live.metrics import CONTENT_TYPE, Samples, render_metrics
from edge_mrcnn.live.monitor import Monitor
from edge_mrcnn.live.pictures import PictureEncoder
from edge_mrcnn.live.scenes import Scenes
from edge_mrcnn.live.state import describe_state
from runtimes import ModelCard
from runtimes.errors import UsageError

IO_TIMEOUT_S = 5.0
"""Seconds that a client may take to send a request or to accept an answer."""
PICTURE_WAIT_S = 3.0
"""Seconds to wait for a new picture before the viewer is told to ask again."""
MAX_CONNECTIONS = 32
MAX_BODY = 1024
"""Bytes of the body of a request."""
COOKIE = "edge_mrcnn_session"
GUARD = "X-Edge-MRCNN"
"""Header of every POST: scripts of other origins may not send it, forms cannot."""
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Path -> file of the page and its type."""
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Site:
    """What the page shows and what it may change."""

    card: ModelCard
    monitor: Monitor
    controls: Controls
    scenes: Scenes
    encoder: PictureEncoder
    access: Access
    tallies: Callable[[], Iterable[tuple[str, str, Samples]]] = tuple
    """Counters of the outputs, for the metrics."""
    viewers: Viewers = field(default_factory=Viewers)

    def source_name(self, number: str) -> str:
        """The label of the source at a position; RequestError unless there is one."""
        names = [status.name for status in self.monitor.status()]
        if not number.isdecimal() or int(number) >= len(names):
            raise RequestError(HTTPStatus.NOT_FOUND, f"expected a source from 0 to {len(names) - 1}")
        return names[int(number)]


class RequestError(Exception):
    """A request that is refused."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class PageServer(ThreadingHTTPServer):
    """Serves a site from threads of its own; close it when done."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, address: Address, site: Site) -> None:
        """Bind the address and begin to answer.

        Raises:
            UsageError: If the address cannot be had.
        """
        self.site = site
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._connections: set[socket.socket] = set()
        try:
            super().__init__((address.host, address.port), PageHandler)
        except OSError as error:
            raise UsageError(f"--web {address.host}:{address.port}: {error.strerror}; choose another port") from None
        self.address = Address(address.host, self.server_address[1])
        self._thread = threading.Thread(target=self.serve_forever, args=(0.2,), name="page", daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Bind without asking the name service who we are, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or hang up when there are too many."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Free the place whatever happens."""
        self._connections.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.discard(request)
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A viewer that is gone or too slow is no error."""
        logger.debug("a connection of the page ended early", exc_info=True)

    def close(self) -> None:
        """Stop answering, those too who are connected already."""
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class PageHandler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IO_TIMEOUT_S
    disable_nagle_algorithm = True
    server: PageServer

    def do_GET(self) -> None:
        self._answer(GET_ROUTES, POST_ROUTES)

    def do_POST(self) -> None:
        self._answer(POST_ROUTES, GET_ROUTES)

    def version_string(self) -> str:
        """What the Server header says: no versions, which only help an attacker."""
        return "edge-mrcnn"

    def log_message(self, format: str, *values: object) -> None:
        """Requests are of interest to nobody but a developer."""
        logger.debug(format, *values)

    @property
    def site(self) -> Site:
        """What is served."""
        return self.server.site

    @property
    def client(self) -> str:
        """Address of the other side."""
        return str(self.client_address[0])

    def _answer(self, routes: dict[str, Route], others: dict[str, Route]) -> None:
        """Check a request and do what its route says."""
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        try:
            self._check_host()
            route = routes.get(url.path)
            if route is None:
                is_other = url.path in others
                status = HTTPStatus.METHOD_NOT_ALLOWED if is_other else HTTPStatus.NOT_FOUND
                raise RequestError(status, status.phrase.lower())
            if not route.is_public and not self.is_known():
                raise RequestError(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong")
            route.answer(self, self._read_change() if routes is POST_ROUTES else query)
        except RequestError as error:
            self.close_connection = True  # a body that was not read must not be taken for the next request
            self.send_json({"error": str(error)}, error.status)

    def _check_host(self) -> None:
        if not self.site.access.is_host_allowed(self.headers.get("Host", "")):
            raise RequestError(
                HTTPStatus.MISDIRECTED_REQUEST, "this server does not know the name it was called by; see --web-host"
            )

    def is_known(self) -> bool:
        """Whether the request carries the token or the session of somebody who gave it."""
        access = self.site.access
        if not access.needs_token:
            return True
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and access.is_token(token.strip(), self.client):
            return True
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and access.is_session(cookie.value)

    def _read_change(self) -> dict[str, Any]:
        """The JSON object that a POST carries."""
        origin = self.headers.get("Origin")
        if self.headers.get(GUARD) != "1" or (origin and urlsplit(origin).netloc != self.headers.get("Host")):
            raise RequestError(HTTPStatus.FORBIDDEN, f"expected the header {GUARD}: 1 and a request of this page")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of up to {MAX_BODY} bytes")
        try:
            change = json.loads(self.rfile.read(int(length)))
        except ValueError:
            change = None
        if not isinstance(change, dict):
            raise RequestError(HTTPStatus.BAD_REQUEST, "expected a JSON object")
        return change

    def send_json(self, value: object, status: HTTPStatus = HTTPStatus.OK, headers: Headers = ()) -> None:
        """Answer with JSON."""
        self.send_body(json.dumps(value).encode(), "application/json", status, headers)

    def send_body(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, headers: Headers = ()) -> None:
        """Answer with a body of a content type."""
        self.start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *headers])
        self.wfile.write(body)

    def start(self, status: HTTPStatus, headers: Headers) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        for name, value in (*SECURITY_HEADERS.items(), *headers):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Route:
    """What is done for one path."""

    answer: Callable[[PageHandler, dict[str, Any]], None]
    """Takes the connection, and the query of a GET or the body of a POST."""
    is_public: bool = False
    """Whether it is open without the token."""


def send_page(handler: PageHandler, query: dict[str, Any]) -> None:
    """The page itself; it holds nothing secret and asks for the token where one is needed."""
    name, kind = PAGE[urlsplit(handler.path).path]
    handler.send_body((resources.files("edge_mrcnn.live") / "page" / name).read_bytes(), kind)


def send_state(handler: PageHandler, query: dict[str, Any]) -> None:
    """What the page shows."""
    site = handler.site
    state = describe_state(site.card, site.monitor, site.controls, site.scenes)
    handler.send_json({**state, "viewers": site.viewers.count})


def send_health(handler: PageHandler, query: dict[str, Any]) -> None:
    """200 while frames are processed, else 503; the reason only for those who may see the page."""
    health = handler.site.monitor.health()
    details = {"why": health.reason} if handler.is_known() else {}
    status = HTTPStatus.OK if health.is_ok else HTTPStatus.SERVICE_UNAVAILABLE
    handler.send_json({"ok": health.is_ok, **details}, status)


def send_metrics(handler: PageHandler, query: dict[str, Any]) -> None:
    """Prometheus text."""
    site = handler.site
    handler.send_body(render_metrics(site.monitor, site.card, site.tallies()).encode(), CONTENT_TYPE)


def send_picture(handler: PageHandler, query: dict[str, Any]) -> None:
    """The next picture of a source, as soon as there is one; 204 when there is none for a while."""
    source = handler.site.source_name(query.get("source", "0"))
    _admit(handler, _viewer(handler, query))
    after = query.get("after", "0")
    number = int(after) if after.isdecimal() else 0
    picture = handler.site.encoder.wait(source, _size(query), number, PICTURE_WAIT_S)
    if picture is None:
        handler.start(HTTPStatus.NO_CONTENT, ())
        return
    handler.send_body(picture.jpeg, "image/jpeg", headers=[("X-Number", str(picture.number))])


def send_mjpeg(handler: PageHandler, query: dict[str, Any]) -> None:
    """Pictures without end, for programs that know MJPEG; one that is slow gets fewer, one that stops is dropped."""
    source = handler.site.source_name(query.get("source", "0"))
    viewer = f"{handler.client} {handler.client_address[1]}"
    _admit(handler, viewer)
    handler.close_connection = True
    handler.start(HTTPStatus.OK, [("Content-Type", "multipart/x-mixed-replace; boundary=frame")])
    number = 0
    try:
        while handler.site.viewers.admit(viewer):
            picture = handler.site.encoder.wait(source, _size(query), number, PICTURE_WAIT_S)
            if picture is None:
                if handler.site.encoder.is_closed:
                    return
                continue
            number = picture.number
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n\r\n"
            handler.wfile.write(head.encode() + picture.jpeg + b"\r\n")
    finally:
        handler.site.viewers.leave(viewer)


def _size(query: dict[str, Any]) -> str:
    return "small" if query.get("size") == "small" else "large"


def _viewer(handler: PageHandler, query: dict[str, Any]) -> str:
    """Who asks: a page names itself, so that two of one machine are two."""
    name = query.get("viewer", "")
    return f"{handler.client} {name if re.fullmatch('[a-z0-9]{1,32}', name) else ''}"


def _admit(handler: PageHandler, viewer: str) -> None:
    if not handler.site.viewers.admit(viewer):
        raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "as many viewers as there may be watch already")


def change_conf(handler: PageHandler, change: dict[str, Any]) -> None:
    """Set the score threshold."""
    value = change.get("conf")
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise RequestError(HTTPStatus.BAD_REQUEST, "expected a conf from 0 to 1")
    handler.site.controls.conf = float(value)
    handler.send_json({"conf": handler.site.controls.conf})


def change_pause(handler: PageHandler, change: dict[str, Any]) -> None:
    """Pause a source, or let it go on."""
    source, is_paused = handler.site.source_name(str(change.get("source"))), change.get("paused")
    if not isinstance(is_paused, bool):
        raise RequestError(HTTPStatus.BAD_REQUEST, "expected paused to be true or false")
    handler.site.controls.pause(source, is_paused)
    handler.send_json({"paused": is_paused})


def log_in(handler: PageHandler, change: dict[str, Any]) -> None:
    """Exchange the token for a session."""
    access = handler.site.access
    is_right = access.is_token(str(change.get("token", "")), handler.client) if access.needs_token else True
    if is_right is None:
        raise RequestError(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens; wait a minute")
    if not is_right:
        raise RequestError(HTTPStatus.UNAUTHORIZED, "the token is wrong")
    cookie = f"{COOKIE}={access.open_session()}; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800"
    handler.send_json({"ok": True}, headers=[("Set-Cookie", cookie)])


GET_ROUTES = {
    **dict.fromkeys(PAGE, Route(send_page, is_public=True)),
    "/healthz": Route(send_health, is_public=True),
    "/metrics": Route(send_metrics),
    "/api/state": Route(send_state),
    "/picture.jpg": Route(send_picture),
    "/stream.mjpg": Route(send_mjpeg),
}
POST_ROUTES = {
    "/api/login": Route(log_in, is_public=True),
    "/api/conf": Route(change_conf),
    "/api/pause": Route(change_pause),
}
