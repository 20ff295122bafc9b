"""Events as HTTP POST to a URL of the user, from a thread with a bounded queue: the loop never waits for a server.

An event is JSON; with an image it is a multipart form with `event` (JSON) and `snapshot` (JPEG).
"""

from __future__ import annotations

import base64
import json
import logging
import queue
import threading
import urllib.request
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from edge_mrcnn import __version__
from edge_mrcnn.live.option_spec import option
from edge_mrcnn.live.outputs.base import QUEUE, LoopContext, Output, Tally
from edge_mrcnn.live.result import LiveResult
from edge_mrcnn.live.scenes import SceneEvent
from edge_mrcnn.live.snapshots import FLUSH_S, SnapshotEncoder, SnapshotStyle
from runtimes.errors import UsageError
from runtimes.redaction import find_secrets, hide

TIMEOUT_S = 5.0
"""Timeout of a request, in seconds."""
PAUSES_S = (1.0, 3.0, 10.0)
"""Seconds to wait before each retry."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WebhookSettings:
    """Options of the webhook."""

    webhook: str | None = option(None, "POST events to this URL as JSON.", kind="private url", metavar="URL")


class Message(NamedTuple):
    """An event to be sent."""

    event: dict[str, Any]
    jpeg: bytes | None = None

    def encode(self) -> tuple[str, bytes]:
        """Content type and body."""
        text = json.dumps(self.event).encode()
        if self.jpeg is None:
            return "application/json", text
        boundary = uuid.uuid4().hex
        edge = f"--{boundary}\r\nContent-Disposition: form-data; name=".encode()
        event = edge + b'"event"\r\nContent-Type: application/json\r\n\r\n' + text
        head = b'"snapshot"; filename="snapshot.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        body = event + b"\r\n" + edge + head + self.jpeg + f"\r\n--{boundary}--\r\n".encode()
        return f"multipart/form-data; boundary={boundary}", body


class Webhook(Output):
    """Posts events as JSON, each with an `id` that stays the same over retries."""

    settings_type = WebhookSettings
    keeps_frames = False
    name = "--webhook"

    def __init__(
        self, url: str, *, snapshot: SnapshotStyle | None = None, pauses_s: tuple[float, ...] = PAUSES_S
    ) -> None:
        """Start the thread.

        Args:
            url: http:// or https://; user name and password in it become basic authentication.
            snapshot: Style of the images; None for events without images.
            pauses_s: Seconds to wait before each retry.

        Raises:
            UsageError: If the URL is not valid.
        """
        self._url, self._headers = _split_credentials(url)
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError("--webhook: expected a URL that begins with http:// or https://")
        # Services put the secret into the path, so only the host is ever shown.
        hide(*find_secrets(url), *(part for part in (parts.path.strip("/"), parts.query) if len(part) >= 8))
        self._host = parts.hostname
        self._pauses_s = pauses_s
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._queue: queue.Queue[Message | None] = queue.Queue(QUEUE)
        self._counts = {"sent": 0, "failed": 0, "dropped": 0}
        self._reason = ""
        self._stopping = threading.Event()
        self._results: dict[str, LiveResult] = {}
        """The newest result of each source, if images are sent."""
        self.keeps_frames = snapshot is not None
        self._encoder = SnapshotEncoder(snapshot, self.start_thread) if snapshot else None
        self._thread = self.start_thread(self._run, "webhook")

    @classmethod
    def open(cls, settings: WebhookSettings, context: LoopContext) -> Webhook | None:
        return None if settings.webhook is None else cls(settings.webhook, snapshot=context.snapshot)

    def put(self, result: LiveResult) -> None:
        if self._encoder:
            self._results[result.frame.source] = result

    def put_event(self, event: SceneEvent) -> None:
        record = {"id": str(uuid.uuid4()), **event.to_dict()}
        if self._encoder:
            result = self._results.get(event.source) if event.is_in_view else None
            self._encoder.submit(result, lambda jpeg: self._put(Message(record, jpeg)))
        else:
            self._put(Message(record))

    def _put(self, message: Message) -> None:
        """Put a message into the queue."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._counts["dropped"] += 1

    def tallies(self) -> Iterable[Tally]:
        samples = [({"result": result}, count) for result, count in self._counts.items()]
        yield "webhook_events", "Events for the webhook, by outcome.", samples

    def close(self) -> None:
        """Send what is queued, for at most a second; drop the rest."""
        if self._stopping.is_set():
            return
        if self._encoder:
            self._encoder.close()
        try:
            self._queue.put_nowait(None)
            self._thread.join(FLUSH_S)
        except queue.Full:
            pass
        self._stopping.set()
        self._thread.join(FLUSH_S)  # ends the pause between two attempts
        self._counts["dropped"] += sum(event is not None for event in self._queue.queue)
        if self._counts["failed"] and not self._counts["sent"]:
            self.failure = f"{self._host} accepted no event: {self._reason}"

    def _run(self) -> None:
        while not self._stopping.is_set() and (message := self._queue.get()) is not None:
            is_sent = self._deliver(message)
            self._counts["sent" if is_sent else "failed"] += 1

    def _deliver(self, message: Message) -> bool:
        """Retry until the server accepts the event; False if it does not, or rejects it for good."""
        kind, body = message.encode()
        for pause_s in (*self._pauses_s, None):
            try:
                self._post(kind, body)
                return True
            except HTTPError as error:
                reason, is_final = f"responds with {error.code}", error.code < 500 and error.code not in (408, 429)
                error.close()
            except (OSError, HTTPException, ValueError) as error:
                reason, is_final = _reason_of(error), False
            if is_final or pause_s is None or self._stopping.wait(pause_s):
                break
        self._reason = reason
        logger.warning("webhook at %s: an event was not accepted: %s", self._host, reason)
        return False

    def _post(self, kind: str, body: bytes) -> None:
        headers = {**self._headers, "Content-Type": kind}
        request = urllib.request.Request(self._url, body, headers, method="POST")
        with self._opener.open(request, timeout=TIMEOUT_S) as response:
            response.read(1024)


def _reason_of(error: Exception) -> str:
    """The reason of a failure without the address; for a connection error, the system's message."""
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or type(inner).__name__


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: they would turn a POST into a GET, and could send the event elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _split_credentials(url: str) -> tuple[str, dict[str, str]]:
    """The URL without user name and password, and the request headers."""
    headers = {"User-Agent": f"edge-mrcnn/{__version__}"}
    scheme, separator, rest = url.partition("://")
    credentials, at, address = rest.rpartition("@")
    if not at or "/" in credentials.partition(":")[0]:
        return url, headers
    token = base64.b64encode(unquote(credentials).encode()).decode()
    return f"{scheme}{separator}{address}", {**headers, "Authorization": f"Basic {token}"}
