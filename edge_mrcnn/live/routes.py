"""Routes of the page: what it shows, and what it may change.

No route accepts the address of a source, a path of the machine or a command; sources are given by number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib import resources
from io import BufferedIOBase
from typing import Any, Protocol
from urllib.parse import urlsplit

from edge_mrcnn.live.access import Access, Viewers
from edge_mrcnn.live.controls import Controls
from edge_mrcnn.live.metrics import CONTENT_TYPE, Samples, render_metrics
from edge_mrcnn.live.monitor import Monitor
from edge_mrcnn.live.pictures import PictureEncoder
from edge_mrcnn.live.scenes import Scenes
from edge_mrcnn.live.state import describe_state
from runtimes import ModelCard

Headers = Iterable[tuple[str, str]]

PICTURE_WAIT_S = 3.0
"""Maximum seconds to wait for a new picture before the viewer has to ask again."""
COOKIE = "edge_mrcnn_session"
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Path -> file of the page and its type."""


@dataclass(frozen=True)
class Site:
    """Everything that the routes need."""

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
        """The label of a source by its number; RequestError if there is none."""
        names = [status.name for status in self.monitor.status()]
        if not number.isdecimal() or int(number) >= len(names):
            raise RequestError(HTTPStatus.NOT_FOUND, f"expected a source from 0 to {len(names) - 1}")
        return names[int(number)]


class RequestError(Exception):
    """A request that is refused."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class HttpExchange(Protocol):
    """Interface of a request for the routes; the server's handler implements it."""

    command: str
    """"GET", "HEAD" or "POST"."""
    path: str
    """Path and query of the request."""
    client_address: Any
    """Address and port of the client."""
    close_connection: bool
    """Whether the connection ends with this response."""

    @property
    def wfile(self) -> BufferedIOBase:
        """Stream for a body without end."""

    @property
    def site(self) -> Site:
        """What is served."""

    @property
    def client(self) -> str:
        """Address of the client."""

    def is_known(self) -> bool:
        """Whether the request carries the token, or a session opened with it."""

    def start(self, status: HTTPStatus, headers: Headers) -> None:
        """Send the head of a response."""

    def send_body(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, headers: Headers = ()) -> None:
        """Respond with a body of a content type."""

    def send_json(self, value: object, status: HTTPStatus = HTTPStatus.OK, headers: Headers = ()) -> None:
        """Respond with JSON."""


@dataclass(frozen=True)
class Route:
    """The handler of one path."""

    handler: Callable[[HttpExchange, dict[str, Any]], None]
    """Takes the request, and the query of a GET or the JSON body of a POST."""
    is_public: bool = False
    """Whether it is available without the token."""


def send_page(connection: HttpExchange, query: dict[str, Any]) -> None:
    """The page itself; it contains no secrets and shows a form for the token if one is required."""
    name, kind = PAGE[urlsplit(connection.path).path]
    connection.send_body((resources.files("edge_mrcnn.live") / "page" / name).read_bytes(), kind)


def send_state(connection: HttpExchange, query: dict[str, Any]) -> None:
    """State of model, sources and loop."""
    site = connection.site
    state = describe_state(site.card, site.monitor, site.controls, site.scenes)
    connection.send_json({**state, "viewers": site.viewers.count})


def send_health(connection: HttpExchange, query: dict[str, Any]) -> None:
    """Status 200 while frames are processed, else 503; the reason only for clients with the token."""
    health = connection.site.monitor.health()
    details = {"why": health.reason} if connection.is_known() else {}
    status = HTTPStatus.OK if health.is_ok else HTTPStatus.SERVICE_UNAVAILABLE
    connection.send_json({"ok": health.is_ok, **details}, status)


def send_metrics(connection: HttpExchange, query: dict[str, Any]) -> None:
    """Metrics as Prometheus text."""
    site = connection.site
    connection.send_body(render_metrics(site.monitor, site.card, site.tallies()).encode(), CONTENT_TYPE)


def send_picture(connection: HttpExchange, query: dict[str, Any]) -> None:
    """The next picture of a source, as soon as there is one; 204 if there is none for a while."""
    source = connection.site.source_name(query.get("source", "0"))
    _admit(connection, _viewer(connection, query))
    after = query.get("after", "0")
    number = int(after) if after.isdecimal() else 0
    picture = connection.site.encoder.wait(source, _size(query), number, PICTURE_WAIT_S)
    if picture is None:
        connection.start(HTTPStatus.NO_CONTENT, ())
        return
    headers = [("X-Number", str(picture.number)), ("X-Shown", json.dumps(picture.shown))]
    connection.send_body(picture.jpeg, "image/jpeg", headers=headers)


def send_mjpeg(connection: HttpExchange, query: dict[str, Any]) -> None:
    """An endless MJPEG stream; a slow client gets fewer pictures, a stalled one is disconnected."""
    source = connection.site.source_name(query.get("source", "0"))
    viewer = f"{connection.client} {connection.client_address[1]}"
    _admit(connection, viewer)
    connection.close_connection = True
    connection.start(HTTPStatus.OK, [("Content-Type", "multipart/x-mixed-replace; boundary=frame")])
    number = 0
    try:
        if connection.command == "HEAD":
            return
        while connection.site.viewers.admit(viewer):
            picture = connection.site.encoder.wait(source, _size(query), number, PICTURE_WAIT_S)
            if picture is None:
                if connection.site.encoder.is_closed:
                    return
                continue
            number = picture.number
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n\r\n"
            connection.wfile.write(head.encode() + picture.jpeg + b"\r\n")
    finally:
        connection.site.viewers.leave(viewer)


def _size(query: dict[str, Any]) -> str:
    return "small" if query.get("size") == "small" else "large"


def _viewer(connection: HttpExchange, query: dict[str, Any]) -> str:
    """Key of a viewer. Each page sends a name of its own, so that two pages on one machine count as two viewers."""
    name = query.get("viewer", "")
    return f"{connection.client} {name if re.fullmatch('[a-z0-9]{1,32}', name) else ''}"


def _admit(connection: HttpExchange, viewer: str) -> None:
    if not connection.site.viewers.admit(viewer):
        raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "the maximum number of viewers is reached")


def change_conf(connection: HttpExchange, change: dict[str, Any]) -> None:
    """Set the score threshold."""
    value = change.get("conf")
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise RequestError(HTTPStatus.BAD_REQUEST, "expected a conf from 0 to 1")
    connection.site.controls.conf = float(value)
    connection.send_json({"conf": connection.site.controls.conf})


def change_pause(connection: HttpExchange, change: dict[str, Any]) -> None:
    """Pause or resume a source."""
    source, is_paused = connection.site.source_name(str(change.get("source"))), change.get("paused")
    if not isinstance(is_paused, bool):
        raise RequestError(HTTPStatus.BAD_REQUEST, "expected paused to be true or false")
    connection.site.controls.pause(source, is_paused)
    connection.send_json({"paused": is_paused})


def log_in(connection: HttpExchange, change: dict[str, Any]) -> None:
    """Exchange the token for a session."""
    access = connection.site.access
    is_right = access.is_token(str(change.get("token", "")), connection.client) if access.needs_token else True
    if is_right is None:
        raise RequestError(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens; wait a minute")
    if not is_right:
        raise RequestError(HTTPStatus.UNAUTHORIZED, "the token is wrong")
    cookie = f"{COOKIE}={access.open_session()}; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800"
    connection.send_json({"ok": True}, headers=[("Set-Cookie", cookie)])


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
