"""The server of the web page: it decides which requests get a response; `edge_mrcnn.live.routes` makes the responses.

It is the server of the standard library, so that the page needs no further package on the device. It has a thread per
connection, few connections, and a time limit on every request and every write. When all connections are in use, the one
that has been sending its request for longest is closed, so that silent connections cannot lock others out. A change is
a POST with a header that forms of other sites cannot send.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import socket
import threading
import time
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edge_mrcnn.live.access import Address
from edge_mrcnn.live.routes import COOKIE, GET_ROUTES, POST_ROUTES, Headers, RequestError, Route, Site
from runtimes.errors import UnavailableError

IO_TIMEOUT_S = 5.0
"""Seconds that a client may be silent, or may take to receive a response."""
REQUEST_S = 10.0
"""Maximum seconds for a whole request; a browser keeps an idle connection open that long."""
MAX_CONNECTIONS = 32
MAX_BODY = 1024
"""Maximum number of bytes of a request body."""
GUARD = "X-Edge-MRCNN"
"""Header of every POST: scripts of other origins may not send it, and forms cannot."""
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


class PageServer(ThreadingHTTPServer):
    """Serves a site from threads of its own; close it when done."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, address: Address, site: Site) -> None:
        """Bind the address and start to serve.

        Raises:
            UnavailableError: If the address is not available.
        """
        self.site = site
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._lock = threading.Lock()
        self._reading_s: dict[socket.socket, float | None] = {}
        """Connection -> time since when it has been sending a request, by the monotonic clock; None while it is
        served."""
        try:
            super().__init__((address.host, address.port), PageHandler)
        except OSError as error:
            what = "host of this machine" if error.errno == errno.EADDRNOTAVAIL else "port"
            raise UnavailableError(
                f"--web {address.host}:{address.port}: {error.strerror}; choose another {what}"
            ) from None
        self.address = Address(address.host, self.server_address[1])
        self._thread = threading.Thread(target=self.serve_forever, args=(0.2,), name="page", daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Bind without a reverse name lookup, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread; close it if there are too many and none can be closed for it."""
        if not self._admit(request):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Release the connection's place in any case."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._reading_s.pop(request, None)

    def service_actions(self) -> None:
        """Several times a second: close connections that take too long for a request."""
        now = time.monotonic()
        with self._lock:
            late = [one for one, since in self._reading_s.items() if since is not None and now - since > REQUEST_S]
            for connection in late:
                self._hang_up(connection)

    def note(self, connection: socket.socket, *, is_reading: bool) -> None:
        """Note that a connection starts sending a request, or has sent it."""
        with self._lock:
            if connection in self._reading_s:
                self._reading_s[connection] = time.monotonic() if is_reading else None

    def _admit(self, request: socket.socket) -> bool:
        with self._lock:
            if len(self._reading_s) >= MAX_CONNECTIONS:
                reading = {one: since for one, since in self._reading_s.items() if since is not None}
                if not reading:
                    return False
                self._hang_up(min(reading, key=lambda one: reading[one]))
            self._reading_s[request] = time.monotonic()
            return True

    def _hang_up(self, connection: socket.socket) -> None:
        """Close a connection, under the lock; its thread notices."""
        del self._reading_s[connection]
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A viewer that is gone or too slow is not an error."""
        logger.debug("a connection of the page ended early", exc_info=True)

    def close(self) -> None:
        """Stop serving, and close open connections."""
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection in list(self._reading_s):
                self._hang_up(connection)


class PageHandler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IO_TIMEOUT_S
    disable_nagle_algorithm = True
    server: PageServer

    def handle_one_request(self) -> None:
        """Read a request and handle it; the client now has a limited time to send it."""
        self.server.note(self.connection, is_reading=True)
        super().handle_one_request()

    def do_HEAD(self) -> None:
        self._handle(GET_ROUTES, POST_ROUTES)

    def do_GET(self) -> None:
        self._handle(GET_ROUTES, POST_ROUTES)

    def do_POST(self) -> None:
        self._handle(POST_ROUTES, GET_ROUTES)

    def version_string(self) -> str:
        """Value of the Server header, without versions, which only help an attacker."""
        return "edge-mrcnn"

    def log_message(self, format: str, *values: object) -> None:
        """Requests are logged for developers only."""
        logger.debug(format, *values)

    @property
    def site(self) -> Site:
        """What is served."""
        return self.server.site

    @property
    def client(self) -> str:
        """Address of the client."""
        return str(self.client_address[0])

    def _handle(self, routes: dict[str, Route], others: dict[str, Route]) -> None:
        """Check a request and call its route."""
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
            given = self._read_change() if routes is POST_ROUTES else query
            self.server.note(self.connection, is_reading=False)
            route.handler(self, given)
        except RequestError as error:
            self.close_connection = True  # An unread body must not be parsed as the next request.
            self.send_json({"error": str(error)}, error.status)

    def _check_host(self) -> None:
        if not self.site.access.is_host_allowed(self.headers.get("Host", "")):
            raise RequestError(HTTPStatus.MISDIRECTED_REQUEST, "unknown host name of this server; see --web-host")

    def is_known(self) -> bool:
        """Whether the request carries the token, or a session opened with it."""
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
        """The JSON object of a POST."""
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
        """Respond with JSON."""
        self.send_body(json.dumps(value).encode(), "application/json", status, headers)

    def send_body(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, headers: Headers = ()) -> None:
        """Respond with a body of a content type."""
        self.start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *headers])
        if self.command != "HEAD":
            self.wfile.write(body)

    def start(self, status: HTTPStatus, headers: Headers) -> None:
        """Send the head of a response."""
        self.send_response(status)
        for name, value in (*SECURITY_HEADERS.items(), *headers):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
