"""Results to an MQTT broker: state of each source once a second, events at once, images, Home Assistant discovery.

Topics under the prefix: `status` (online, stopped or offline, retained; the broker itself publishes offline when the
connection is lost), `SOURCE/state` (JSON, retained), `SOURCE/event` (JSON), `SOURCE/snapshot` and
`SOURCE/event/snapshot` (JPEG, retained). Topics use the public name of a source, never its URL. The client's own thread
sends. The loop puts messages into a bounded queue, and of the images only the newest is kept.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote

from edge_mrcnn import __version__
from edge_mrcnn.live.home_assistant import EVENT_SNAPSHOT, SNAPSHOT, Entity, list_entities, to_topic
from edge_mrcnn.live.names import name_publicly
from edge_mrcnn.live.option_spec import option
from edge_mrcnn.live.outputs.base import QUEUE, LoopContext, Output, Tally
from edge_mrcnn.live.result import LiveResult
from edge_mrcnn.live.scenes import SceneEvent
from edge_mrcnn.live.snapshots import SnapshotEncoder, SnapshotStyle
from edge_mrcnn.live.state import describe_views
from runtimes import ModelCard
from runtimes.errors import MissingExtraError, UsageError, one_line
from runtimes.redaction import find_secrets, hide

KEEPALIVE_S = 10
"""MQTT keep-alive, in seconds; the broker publishes "offline" after one and a half times as long."""
CONNECT_S = 3.0
"""Seconds until a connection attempt ends."""
CLOSE_S = 0.5
"""Maximum seconds to wait for the broker at the end, twice."""
AWAY_S = 5.0
"""Seconds without the broker until a warning is logged, once per outage."""
MAX_CLASSES = 20
"""Maximum number of classes that are announced to Home Assistant at start; with more, a class is announced when first
seen."""
USER, PASSWORD = "EDGE_MRCNN_MQTT_USER", "EDGE_MRCNN_MQTT_PASSWORD"
"""Environment variables for user and password, as an alternative to the URL."""
DISCOVERY = "homeassistant"

T = TypeVar("T")

logger = logging.getLogger(__name__)
Describe = Callable[[], Iterable[tuple[str, dict[str, Any]]]]
"""Returns the label of each source and its state, as `edge_mrcnn.live.state.describe_source` makes it."""


@dataclass(frozen=True)
class Broker:
    """Address of the broker."""

    host: str
    port: int
    is_encrypted: bool
    prefix: str
    """First part of every topic."""
    user: str
    password: str


def parse_broker(url: str) -> Broker:
    """Parse "mqtt[s]://[USER:PASSWORD@]HOST[:PORT][/PREFIX]"; user and password may also come from the environment.

    Raises:
        UsageError: If the URL is not valid.
    """
    scheme, _, rest = url.partition("://")
    credentials, _, address = rest.rpartition("@")
    user, _, password = credentials.partition(":")
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^/:?#\s]+)(?::(\d{1,5}))?(?:/([^?#\s]*))?", address)
    if scheme not in ("mqtt", "mqtts") or not match or re.search(r"[+#]", match[3] or ""):
        raise UsageError("--mqtt: expected mqtt://HOST[:PORT][/PREFIX], or mqtts:// for an encrypted connection")
    hide(*find_secrets(url), password := unquote(password) or os.environ.get(PASSWORD, ""))
    return Broker(
        host=match[1].strip("[]"),
        port=int(match[2] or (8883 if scheme == "mqtts" else 1883)),
        is_encrypted=scheme == "mqtts",
        prefix=(match[3] or "").strip("/") or "edge-mrcnn",
        user=unquote(user) or os.environ.get(USER, ""),
        password=password,
    )


@dataclass(frozen=True, kw_only=True)
class MqttSettings:
    """Options of MQTT."""

    mqtt: str | None = option(
        None,
        "Publish states and events to mqtt[s]://HOST[:PORT][/PREFIX], also for Home Assistant; password: env:NAME or "
        "file:PATH.",
        kind="private url", metavar="URL",
    )  # fmt: skip
    snapshot_every: float = option(
        10.0, "Interval in seconds of --mqtt images without an event; 0 sends images only with events.",
        kind="number", low=0, shows_default=True,
    )  # fmt: skip


class Mqtt(Output):
    """Publishes states and events; connects and reconnects in the background."""

    settings_type = MqttSettings
    name = "--mqtt"

    def __init__(
        self,
        broker: Broker,
        card: ModelCard,
        names: Mapping[str, str],
        describe: Describe,
        *,
        classes: tuple[str, ...] | None = None,
        snapshot: SnapshotStyle | None = None,
        snapshot_every_s: float = 10.0,
    ) -> None:
        """Start connecting; a broker that is offline is not an error.

        Args:
            broker: Address of the broker.
            card: The model.
            names: Label of each source -> its public name.
            describe: The state of every source; callable from any thread.
            classes: Classes to announce; all of the model if None.
            snapshot: Style of the images; None for no images.
            snapshot_every_s: Seconds between images of a source without an event; 0 for none.

        Raises:
            MissingExtraError: If paho-mqtt is not installed.
        """
        try:
            from paho.mqtt import client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ModuleNotFoundError as error:
            raise MissingExtraError("--mqtt needs paho-mqtt: pip install 'edge-mrcnn[live]'") from error
        self._broker = broker
        self._card = card
        self._names = names
        self._describe = describe
        self._classes = card.classes if classes is None else classes
        self._counts = {"sent": 0, "dropped": 0}
        self._reason = "no response"
        self._is_met = False
        self._away_since: float | None = time.monotonic()
        self._announced: set[tuple[str, str]] = set()
        self.keeps_frames = snapshot is not None
        self._results: dict[str, LiveResult] = {}
        """The newest result of each source, if images are sent."""
        self._snapshot_every_s = snapshot_every_s
        self._pictured_s: dict[str, float] = {}
        """Time of the last image of each source, by the monotonic clock."""
        self._sending: dict[str, Any] = {}
        """The last image of each topic that is being sent."""
        self._encoder = SnapshotEncoder(snapshot, self.start_thread) if snapshot else None
        self._status_topic = f"{broker.prefix}/status"
        self._client = self._set_up(paho.Client(CallbackAPIVersion.VERSION2))
        self._client.connect_async(broker.host, broker.port, KEEPALIVE_S)
        self._client.loop_start()

    def _set_up(self, client: Any) -> Any:
        """A paho client for the broker, with our callbacks for the connection."""
        client.will_set(self._status_topic, "offline", qos=1, retain=True)
        if self._broker.user or self._broker.password:
            client.username_pw_set(self._broker.user, self._broker.password)
        if self._broker.is_encrypted:
            client.tls_set()
        client.max_queued_messages_set(QUEUE)
        client.reconnect_delay_set(1, 30)
        client.connect_timeout = CONNECT_S
        client.on_connect_fail = self.guarded(self._note_failure)
        client.on_connect = self.guarded(self._greet)
        client.on_disconnect = self.guarded(self._note_loss)
        client.reconnect = _as_os_error(client.reconnect)  # the client's thread survives these exceptions
        return client

    @classmethod
    def open(cls, settings: MqttSettings, context: LoopContext) -> Mqtt | None:
        if settings.mqtt is None:
            return None
        describe = partial(describe_views, context.monitor, context.scenes, context.pixel_mm)
        return cls(
            parse_broker(settings.mqtt), context.card, name_publicly(context.sources), describe,
            classes=context.classes, snapshot=context.snapshot, snapshot_every_s=settings.snapshot_every,
        )  # fmt: skip

    def put(self, result: LiveResult) -> None:
        """Keep the result for an image; send an image if the last one is old."""
        if self._encoder is None:
            return
        source = result.frame.source
        self._results[source] = result
        age_s = time.monotonic() - self._pictured_s.get(source, float("-inf"))
        if self._snapshot_every_s and age_s >= self._snapshot_every_s:
            self._send_picture(source, SNAPSHOT)

    def put_event(self, event: SceneEvent) -> None:
        name = self._names[event.source]
        message = json.dumps({**event.to_dict(), "source": name})
        sent = self._client.publish(f"{self._broker.prefix}/{name}/event", message, qos=1)
        self._counts["dropped" if sent.rc == _QUEUE_IS_FULL else "sent"] += 1
        if event.is_in_view:
            self._send_picture(event.source, SNAPSHOT, EVENT_SNAPSHOT)

    def _send_picture(self, source: str, *topics: str) -> None:
        """Encode and publish the newest frame of a source."""
        if self._encoder is None:
            return
        self._pictured_s[source] = time.monotonic()
        places = [f"{self._broker.prefix}/{self._names[source]}/{topic}" for topic in topics]
        self._encoder.submit(self._results.get(source), lambda jpeg: self._publish_picture(places, jpeg))

    def _publish_picture(self, topics: Iterable[str], jpeg: bytes | None) -> None:
        """Publish an image, unless the previous one is still being sent: a slow network must not fill the memory."""
        if jpeg is None or not self._client.is_connected():
            return
        for topic in topics:
            if not _is_under_way(self._sending.get(topic)):
                self._sending[topic] = self._client.publish(topic, jpeg, retain=True)

    def tick(self) -> None:
        """Publish the state of each source, and announce new entities to Home Assistant."""
        if not self._client.is_connected():
            self._complain()
            return
        for label, state in self._describe():
            name, classes = self._names[label], self._name_classes(state)
            for entity in list_entities(state, classes, has_pictures=self._encoder is not None):
                self._announce(name, entity)
            absent = dict.fromkeys(classes, 0)
            message = {**state, "name": name, "objects": {**absent, **state["objects"]}}
            self._publish(f"{self._broker.prefix}/{name}/state", json.dumps(message))

    def tallies(self) -> Iterable[Tally]:
        samples = [({"result": result}, count) for result, count in self._counts.items()]
        yield "mqtt_events", "Events for the broker, by outcome.", samples

    def close(self) -> None:
        """Publish "stopped" and disconnect, without waiting for a broker that does not respond."""
        if self._encoder:
            self._encoder.close()
        if not self._is_met:
            self.failure = f"the broker at {self._place} could not be reached: {self._reason}"
        with contextlib.suppress(RuntimeError, ValueError):  # the connection has just been lost
            self._publish(self._status_topic, "stopped").wait_for_publish(CLOSE_S)
        # Not loop_stop, which waits for a broker that hangs. The thread ends by itself once this is sent.
        self._client.disconnect()
        deadline = time.monotonic() + CLOSE_S
        while self._client.is_connected() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _greet(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        """Publish status and announcements after each connection: the broker may have lost its retained messages."""
        if reason.is_failure:
            self._reason = f"refused: {reason}"
            logger.warning("MQTT broker %s: refused: %s", self._broker.host, reason)
            return
        self._is_met, self._away_since = True, None
        logger.info("MQTT broker %s: connected", self._broker.host)
        self._announced.clear()
        self._publish(self._status_topic, "online")

    @property
    def _place(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"

    def _note_failure(self, client: Any, data: Any) -> None:
        """Keep the reason of a failed connection; the client calls this while it handles the error."""
        error = sys.exc_info()[1]
        self._reason = one_line(error) if error else "no response"

    def _complain(self) -> None:
        """Log once that the broker is offline."""
        if self._away_since is not None and time.monotonic() - self._away_since > AWAY_S:
            self._away_since = None
            logger.warning("MQTT broker %s: cannot be reached, reconnecting: %s", self._place, self._reason)

    def _note_loss(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            logger.warning("MQTT broker %s: connection lost: %s", self._broker.host, reason)

    def _publish(self, topic: str, message: str) -> Any:
        """Publish a retained message; not with QoS 1, whose queue may be full of undelivered events."""
        return self._client.publish(topic, message, retain=True)

    def _name_classes(self, state: Mapping[str, Any]) -> tuple[str, ...]:
        """The classes that are announced to Home Assistant: all, or only those seen so far if there are many."""
        return self._classes if len(self._classes) <= MAX_CLASSES else tuple(state["objects"])

    def _announce(self, name: str, entity: Entity) -> None:
        """Announce an entity to Home Assistant, once per connection."""
        if (name, entity.key) in self._announced:
            return
        self._announced.add((name, entity.key))
        node = to_topic(f"{self._broker.prefix}-{name}")
        topics = {key: f"{self._broker.prefix}/{name}/{topic}" for key, topic in entity.topics.items()}
        config = {
            "name": entity.name,
            **entity.config,
            **topics,
            "unique_id": f"{node}-{entity.key}",
            "availability_topic": self._status_topic,
            # Home Assistant knows only online and offline, so our state "stopped" counts as offline.
            "availability_template": "{{ 'online' if value == 'online' else 'offline' }}",
            "device": {
                "identifiers": [node],
                "name": name,
                "manufacturer": "edge-mrcnn",
                "model": f"{self._card.name} {self._card.precision} {self._card.target}",
                "sw_version": __version__,
            },
        }
        self._publish(f"{DISCOVERY}/{entity.component}/{node}/{entity.key}/config", json.dumps(config))


def _is_under_way(message: Any) -> bool:
    """Whether a published message still waits to be sent."""
    try:
        return message is not None and not message.is_published()
    except (RuntimeError, ValueError):  # the connection was lost, so the message will never be sent
        return False


def _as_os_error(connect: Callable[[], T]) -> Callable[[], T]:
    """The same, but other exceptions (an invalid host name, a broken certificate store) become an OSError."""

    def connect_or_fail() -> T:
        try:
            return connect()
        except OSError:
            raise
        except Exception as error:
            raise OSError(one_line(error)) from error

    return connect_or_fail


_QUEUE_IS_FULL = 15
"""MQTT_ERR_QUEUE_SIZE of paho."""
