"""The server of the web page: `edge_mrcnn.live.routes` says what it answers, this who gets an answer.

The standard library's server, so that the page needs nothing more on the device: a thread per connection, few
connections, a time limit on every read and write. A change is a POST with a header that no form of another site can
send.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edge_mrcnn.live.access import Address
from edge_mrcnn.live.routes import COOKIE, GET_ROUTES, POST_ROUTES, Headers, RequestError, Route, Site
from runtimes.errors import UsageError

IO_TIMEOUT_S = 5.0
"""Seconds that a client may take to send a request or to accept an answer."""
MAX_CONNECTIONS = 32
MAX_BODY = 1024
"""Bytes of the body of a request."""
GUARD = "X-Edge-MRCNN"
"""Header of every POST: scripts of other origins may not send it, forms cannot."""
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
