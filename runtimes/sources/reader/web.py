"""A small HTTP client for cameras, whose responses a strict client would refuse.

It accepts a missing or an "ICY" status line, headers of any length up to a limit, chunked and endless bodies. It
follows redirects, and supports Basic and Digest logins (RFC 7617, RFC 7616 with MD5). Certificates are not checked,
because cameras use self-signed ones.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
import ssl
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from .outlet import Trouble

MOST_HEADER_BYTES = 65536
"""Maximum size of a response's head."""
MOST_REDIRECTS = 5
_CHUNK = 65536
_HEADER = re.compile(rb"[\w-]+:")


class Body:
    """The bytes of a response, as they arrive."""

    def __init__(self, connection: Any, beginning: bytes, headers: dict[str, str]) -> None:
        self._connection = connection
        self._buffer = beginning
        self._is_chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "")
        self._left: int | None = int(length) if length.isdecimal() and not self._is_chunked else None

    def read(self) -> bytes:
        """The bytes that have arrived, at least one; b"" at the end."""
        return self._read_chunk() if self._is_chunked else self._read_plain()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _read_plain(self) -> bytes:
        if self._left == 0:
            return b""
        data = self._take_some()
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return data

    def _read_chunk(self) -> bytes:
        """Source: RFC 9112, section 7.1."""
        size_line = self._take_line() or self._take_line()  # the line end of the previous chunk comes first
        size = re.match(rb"[0-9a-fA-F]+", size_line)
        left = int(size[0], 16) if size else 0
        parts = []
        while left > 0:
            data = self._take_some()
            if not data:
                break
            parts.append(data[:left])
            self._buffer = data[left:] + self._buffer
            left -= len(parts[-1])
        return b"".join(parts)

    def _take_some(self) -> bytes:
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        received: bytes = self._connection.recv(_CHUNK)
        return received

    def _take_line(self) -> bytes:
        while b"\n" not in self._buffer:
            more: bytes = self._connection.recv(_CHUNK)
            if not more or len(self._buffer) > MOST_HEADER_BYTES:
                return b""
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.strip()


class Response(NamedTuple):
    """A server's response."""

    url: str
    """Final address after redirects; with the login."""
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: Body


def fetch(url: str, timeout_s: float) -> Response:
    """Send a GET request, with the login in the URL.

    Args:
        url: "http" or "https", user name and password percent-encoded.
        timeout_s: Timeout for the connection and between two pieces of the response.

    Raises:
        Trouble: "unauthorised", "not-found", "unreadable" (the server's own error) or "not-a-stream".
        OSError: If the connection is lost.
    """
    login = ""
    for _ in range(MOST_REDIRECTS + 2):
        response = _get(url, login, timeout_s)
        if response.status == 401 and not login:
            login = _log_in(urlsplit(url), response.headers.get("www-authenticate", ""))
        elif response.status in (301, 302, 303, 307, 308) and "location" in response.headers:
            url, login = _follow(url, response.headers["location"]), ""
        else:
            _check_status(response)
            return response
        response.body.close()
    raise Trouble("unreadable", "the server redirects in a loop")


def _get(url: str, login: str, timeout_s: float) -> Response:
    parts = urlsplit(url)
    is_encrypted = parts.scheme.lower() == "https"
    port = parts.port or (443 if is_encrypted else 80)
    connection: Any = socket.create_connection((parts.hostname or "", port), timeout_s)
    if is_encrypted:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = context.wrap_socket(connection, server_hostname=parts.hostname)
    lines = [
        f"GET {_target(parts)} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "User-Agent: edge-mrcnn",
        "Accept: */*",
        "Connection: close",
    ]
    if login:
        lines.append(f"Authorization: {login}")
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    status, headers, beginning = _read_head(connection)
    return Response(url, status, headers, Body(connection, beginning, headers))


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _read_head(connection: Any) -> tuple[int, dict[str, str], bytes]:
    """Status, headers, and the start of the body that came with them."""
    data = b""
    while (end := re.search(rb"\r?\n\r?\n", data)) is None:
        more = connection.recv(_CHUNK)
        if not more or len(data) > MOST_HEADER_BYTES:
            raise Trouble("not-a-stream", "the server responds, but not with HTTP")
        data += more
    lines = data[: end.start()].replace(b"\r\n", b"\n").split(b"\n")
    status = re.match(rb"(?:HTTP/\d[\d.]*|ICY)\s+(\d{3})", lines[0])
    if status is None and not _HEADER.match(lines[0]):  # no head at all: the body begins at once
        return 200, {}, data
    headers = {}
    for line in lines[1 if status else 0 :]:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(status[1]) if status else 200, headers, data[end.end() :]


def _follow(url: str, location: str) -> str:
    """The address of a redirect; the login is sent only to the same host."""
    target = urljoin(url, location)
    before, after = urlsplit(url), urlsplit(target)
    if after.scheme.lower() not in ("http", "https"):
        raise Trouble("not-a-stream", "the server redirects to an address that is neither http:// nor https://")
    credentials = before.netloc.rpartition("@")[0]
    if credentials and before.hostname == after.hostname and "@" not in after.netloc:
        target = after._replace(netloc=f"{credentials}@{after.netloc}").geturl()
    return target


def _log_in(parts: SplitResult, challenge: str) -> str:
    """The Authorization header for a challenge."""
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not challenge or not (user or password):
        raise Trouble("unauthorised", "the server asks for a user name and password: user:password@ before the host")
    if challenge.lower().startswith("basic"):
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return _digest(parts, user, password, challenge)


def _digest(parts: SplitResult, user: str, password: str, challenge: str) -> str:
    """Source: RFC 7616, section 3.4, with MD5, which cameras use."""
    asked = {key.lower(): quoted or plain for key, quoted, plain in _PAIR.findall(challenge)}
    realm, nonce, uri = asked.get("realm", ""), asked.get("nonce", ""), _target(parts)
    login, request = _md5(f"{user}:{realm}:{password}"), _md5(f"GET:{uri}")
    fields = {"username": user, "realm": realm, "nonce": nonce, "uri": uri}
    if "opaque" in asked:
        fields["opaque"] = asked["opaque"]
    if "auth" in re.split(r"[,\s]+", asked.get("qop", "")):
        own = os.urandom(8).hex()
        fields["response"] = _md5(f"{login}:{nonce}:00000001:{own}:auth:{request}")
        tail = f', qop=auth, nc=00000001, cnonce="{own}"'
    else:
        fields["response"], tail = _md5(f"{login}:{nonce}:{request}"), ""
    return "Digest " + ", ".join(f'{key}="{value}"' for key, value in fields.items()) + tail


_PAIR = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _check_status(response: Response) -> None:
    if response.status < 400:
        return
    response.body.close()
    if response.status in (401, 403):
        raise Trouble("unauthorised", "the server rejects this user name and password")
    if response.status < 500:
        raise Trouble("not-found", "the server responds, but has no such stream")
    raise Trouble("unreadable", "the server responds with an internal error; the camera may still be starting")
