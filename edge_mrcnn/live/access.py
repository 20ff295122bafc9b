"""Access to the page: addresses, token, Host header, sessions, and the maximum number of viewers.

A page on loopback needs no token; any other address needs one. The Host check stops foreign web pages whose domain name
points to this machine (DNS rebinding): their requests carry neither an IP address nor a name of this host.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from runtimes.errors import UsageError

MIN_TOKEN = 8
"""Minimum number of characters of a token."""
SESSION_S = 7 * 86400.0
"""Seconds until a session ends and the token is needed again."""
MAX_SESSIONS = 64
MAX_FAILURES, FAILURE_WINDOW_S = 10, 60.0
"""Maximum number of wrong tokens from one address within a number of seconds."""
MAX_VIEWERS = 4
"""Maximum number of simultaneous viewers of the live picture."""
VIEWER_S = 5.0
"""Seconds without a request after which a viewer no longer counts."""


class Address(NamedTuple):
    """Address at which the page is served."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or (is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @property
    def url(self) -> str:
        """URL for a browser on this machine."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else "::1" if self.host == "::" else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"


def parse_address(text: str) -> Address:
    """Read ":8080", "8080", "0.0.0.0:8080", "[::]:8080" or "name:8080"; without a host it is 127.0.0.1.

    Raises:
        UsageError: If the text is none of these.
    """
    match = re.fullmatch(r"(?:(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[\w.-]*)):)?(?P<port>\d{1,5})", text)
    if not match or int(match["port"]) > 65535 or (match["v6"] and not is_ip(match["v6"])):
        raise UsageError(f"--web {text}: expected [HOST:]PORT, such as :8080 or 0.0.0.0:8080")
    return Address(match["v6"] or match["name"] or "127.0.0.1", int(match["port"]))


def is_ip(host: str) -> bool:
    """Whether a host is given as an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Access:
    """Decides on requests; usable from any thread."""

    def __init__(
        self,
        address: Address,
        token: str | None = None,
        hosts: Iterable[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make one.

        Args:
            address: Address at which the page is served.
            token: Token that opens the page; None for a page without one.
            hosts: Further host names of the page, such as that of a proxy.
            clock: Monotonic clock, in seconds.

        Raises:
            UsageError: If other machines could reach the page without a token, or the token is too short.
        """
        if token is None and not address.is_loopback:
            raise UsageError(
                f"--web {address.host}:{address.port}: an address that other machines can reach needs --web-token "
                "(env:NAME or file:PATH); at --web :8080, only this machine can connect"
            )
        if token is not None and len(token) < MIN_TOKEN:
            raise UsageError(f"--web-token: expected {MIN_TOKEN} or more characters, got {len(token)}")
        self._token = token
        own = socket.gethostname().lower()
        self._hosts = {"localhost", own, f"{own}.local", address.host.lower(), *(host.lower() for host in hosts)}
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, float] = {}
        self._failures: dict[str, list[float]] = defaultdict(list)

    @property
    def needs_token(self) -> bool:
        """Whether a token is required."""
        return self._token is not None

    def is_host_allowed(self, header: str) -> bool:
        """Whether a Host header names this server."""
        host = header.strip().lower()
        if host.startswith("["):
            return is_ip(host[1:].partition("]")[0])
        host = host.rpartition(":")[0] or host
        return is_ip(host) or host in self._hosts

    def is_token(self, text: str, client: str) -> bool | None:
        """Whether a text is the token, compared in constant time; None if this client sent too many wrong tokens."""
        now = self._clock()
        with self._lock:
            failures = [moment for moment in self._failures[client] if now - moment < FAILURE_WINDOW_S]
            self._failures[client] = failures
            if len(failures) >= MAX_FAILURES:
                return None
            is_right = hmac.compare_digest(text.encode(), (self._token or "").encode())
            if not is_right:
                failures.append(now)
            self._trim(now)
            return is_right

    def open_session(self) -> str:
        """Open a session for a client that sent the right token."""
        session = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[session] = self._clock() + SESSION_S
            for old in list(self._sessions)[:-MAX_SESSIONS]:
                del self._sessions[old]
        return session

    def is_session(self, session: str) -> bool:
        """Whether a session with this key was opened recently."""
        with self._lock:
            return self._sessions.get(session, 0.0) > self._clock()

    def _trim(self, now: float) -> None:
        """Remove clients without a recent failure, so that many addresses cannot fill the memory."""
        if len(self._failures) > 1000:
            recent = {c: m for c, m in self._failures.items() if m and now - m[-1] < FAILURE_WINDOW_S}
            self._failures = defaultdict(list, list(recent.items())[-1000:])


class Viewers:
    """The viewers of the live picture, limited in number; usable from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen_s: dict[str, float] = {}

    def admit(self, viewer: str) -> bool:
        """Whether this viewer may get the next picture; each call renews its place."""
        now = self._clock()
        with self._lock:
            self._seen_s = {name: seen_s for name, seen_s in self._seen_s.items() if now - seen_s < VIEWER_S}
            if viewer not in self._seen_s and len(self._seen_s) >= MAX_VIEWERS:
                return False
            self._seen_s[viewer] = now
            return True

    def leave(self, viewer: str) -> None:
        """Free a viewer's place at once."""
        with self._lock:
            self._seen_s.pop(viewer, None)

    @property
    def count(self) -> int:
        """Number of viewers now."""
        now = self._clock()
        with self._lock:
            return sum(now - seen_s < VIEWER_S for seen_s in self._seen_s.values())
