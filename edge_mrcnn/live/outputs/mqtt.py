"""Results to an MQTT broker: state of each source once a second, events at once, pictures, Home Assistant.

Topics under the prefix: `status` (online, stopped or offline, retained; the last is the broker's own word when it hears
nothing), `SOURCE/state` (JSON, retained), `SOURCE/event` (JSON), `SOURCE/snapshot` and `SOURCE/event/snapshot` (JPEG,
retained). Sources go by their public name, never by URL.
The client's own thread sends; the loop leaves messages in a bounded queue, and of each picture the newest alone.
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
from edge_mrcnn.live.scenes import Happening
from edge_mrcnn.live.snapshots import SnapshotEncoder, SnapshotStyle
from edge_mrcnn.live.state import describe_views
from runtimes import ModelCard
from runtimes.errors import MissingExtraError, UsageError, one_line
from runtimes.redaction import find_secrets, hide

KEEPALIVE_S = 10
"""Seconds of silence after which the broker asks; it says "offline" after one and a half times as many."""
CONNECT_S = 3.0
"""Seconds that a connection may take."""
CLOSE_S = 0.5
"""Seconds that the end may wait for the broker, twice."""
AWAY_S = 5.0
"""Seconds without the broker after which that is said, once until it is there again."""
MAX_CLASSES = 20
"""Models with more classes announce a class to Home Assistant when it is first seen."""
USER, PASSWORD = "EDGE_MRCNN_MQTT_USER", "EDGE_MRCNN_MQTT_PASSWORD"
"""Environment variables for those who keep them out of the URL."""
DISCOVERY = "homeassistant"

T = TypeVar("T")

logger = logging.getLogger(__name__)
Describe = Callable[[], Iterable[tuple[str, dict[str, Any]]]]
"""Gives the label of each source and its state, as `edge_mrcnn.live.state.describe_source` makes it."""


@dataclass(frozen=True)
class Broker:
    """Where messages go."""

    host: str
    port: int
    is_encrypted: bool
    prefix: str
    """First part of every topic."""
    user: str
    password: str


def parse_broker(url: str) -> Broker:
    """Read "mqtt[s]://[USER:PASSWORD@]HOST[:PORT][/PREFIX]"; user and password may come from the environment instead.

    Raises:
        UsageError: If it is no such URL.
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
        None, "mqtt[s]://HOST[:PORT][/PREFIX]: state, events, Home Assistant. Password: env:NAME or file:PATH.",
        kind="private url", metavar="URL",
    )  # fmt: skip
    snapshot_every: float = option(
        10.0, "Seconds after which --mqtt has a new picture without an event too; 0 for events alone.",
        kind="number", low=0, shows_default=True,
    )  # fmt: skip


class Mqtt(Output):
    """Publishes states and events; connects in the background, again and again."""

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
        """Begin to connect; a broker that is away is no error.

        Args:
            broker: Where to.
            card: The model.
            names: Label of each source -> its public name.
            describe: The state of every source, from any thread.
            classes: Those that are announced; all of the model if None.
            snapshot: How pictures look; None for none.
            snapshot_every_s: Seconds between pictures of a source without an event; 0 for none.

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
        self._reason = "no answer"
        self._is_met = False
        self._away_since: float | None = time.monotonic()
        self._announced: set[tuple[str, str]] = set()
        self.keeps_frames = snapshot is not None
        self._results: dict[str, LiveResult] = {}
        """The newest of each source, where pictures are wanted."""
        self._snapshot_every_s = snapshot_every_s
        self._pictured_s: dict[str, float] = {}
        """When each source had its last picture, by the monotonic clock."""
        self._sending: dict[str, Any] = {}
        """The last picture of each topic, on its way."""
        self._encoder = SnapshotEncoder(snapshot, self.start_thread) if snapshot else None
        self._status_topic = f"{broker.prefix}/status"
        self._client = self._set_up(paho.Client(CallbackAPIVersion.VERSION2))
        self._client.connect_async(broker.host, broker.port, KEEPALIVE_S)
        self._client.loop_start()

    def _set_up(self, client: Any) -> Any:
        """A client of paho that knows the broker and tells us what becomes of the connection."""
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
        client.reconnect = _as_os_error(client.reconnect)  # its thread survives these
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
        """Keep the result for a picture; send one where the last is old."""
        if self._encoder is None:
            return
        source = result.frame.source
        self._results[source] = result
        age_s = time.monotonic() - self._pictured_s.get(source, float("-inf"))
        if self._snapshot_every_s and age_s >= self._snapshot_every_s:
            self._send_picture(source, SNAPSHOT)

    def put_happening(self, happening: Happening) -> None:
        name = self._names[happening.source]
        message = json.dumps({**happening.to_dict(), "source": name})
        sent = self._client.publish(f"{self._broker.prefix}/{name}/event", message, qos=1)
        self._counts["dropped" if sent.rc == _QUEUE_IS_FULL else "sent"] += 1
        if happening.is_in_view:
            self._send_picture(happening.source, SNAPSHOT, EVENT_SNAPSHOT)

    def _send_picture(self, source: str, *topics: str) -> None:
        """Have the newest frame of a source encoded and published."""
        if self._encoder is None:
            return
        self._pictured_s[source] = time.monotonic()
        places = [f"{self._broker.prefix}/{self._names[source]}/{topic}" for topic in topics]
        self._encoder.submit(self._results.get(source), lambda jpeg: self._publish_picture(places, jpeg))

    def _publish_picture(self, topics: Iterable[str], jpeg: bytes | None) -> None:
        """Publish a picture, unless the one before is still on its way: a slow network must not fill the memory."""
        if jpeg is None or not self._client.is_connected():
            return
        for topic in topics:
            if not _is_under_way(self._sending.get(topic)):
                self._sending[topic] = self._client.publish(topic, jpeg, retain=True)

    def tick(self) -> None:
        """Publish the state of each source, and announce what Home Assistant was not told yet."""
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
        yield "mqtt_events", "Events for the broker, by what became of them.", samples

    def close(self) -> None:
        """Say "stopped" and leave; a broker that does not listen is not waited for."""
        if self._encoder:
            self._encoder.close()
        if not self._is_met:
            self.failure = f"the broker at {self._place} was never reached: {self._reason}"
        with contextlib.suppress(RuntimeError, ValueError):  # the connection was lost just now
            self._publish(self._status_topic, "stopped").wait_for_publish(CLOSE_S)
        # Not loop_stop, which waits for a broker that is frozen; the thread ends by itself once this is sent.
        self._client.disconnect()
        deadline = time.monotonic() + CLOSE_S
        while self._client.is_connected() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _greet(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        """Say who we are after each connection: the broker may have lost everything."""
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
        """Note why no connection could be made; the client calls this while it handles the error."""
        error = sys.exc_info()[1]
        self._reason = one_line(error) if error else "no answer"

    def _complain(self) -> None:
        """Say once that the broker is away."""
        if self._away_since is not None and time.monotonic() - self._away_since > AWAY_S:
            self._away_since = None
            logger.warning("MQTT broker %s: cannot be reached, trying again: %s", self._place, self._reason)

    def _note_loss(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            logger.warning("MQTT broker %s: connection lost: %s", self._broker.host, reason)

    def _publish(self, topic: str, message: str) -> Any:
        """Publish what the broker keeps; not with QoS 1, whose queue may be full of events that nobody fetched."""
        return self._client.publish(topic, message, retain=True)

    def _name_classes(self, state: Mapping[str, Any]) -> tuple[str, ...]:
        """The classes that Home Assistant is told of: all, or those that were seen where there are many."""
        return self._classes if len(self._classes) <= MAX_CLASSES else tuple(state["objects"])

    def _announce(self, name: str, entity: Entity) -> None:
        """Have Home Assistant make an entity, once per connection."""
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
            # Home Assistant knows two states; a clean stop is as unavailable as a loss.
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
    """Whether a message that was published waits to be sent."""
    try:
        return message is not None and not message.is_published()
    except (RuntimeError, ValueError):  # it never will be: the connection was lost
        return False


def _as_os_error(connect: Callable[[], T]) -> Callable[[], T]:
    """The same, but what else it raises (a name that is no host's, a broken certificate store) is an OSError too."""

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
