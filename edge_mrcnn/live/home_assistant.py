"""What Home Assistant makes of a source: its entities, as the messages of MQTT discovery describe them.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SNAPSHOT, EVENT_SNAPSHOT = "snapshot", "event/snapshot"
"""Topics of pictures, below that of the source: the newest, and that of the last event."""


@dataclass(frozen=True)
class Entity:
    """One entity of Home Assistant."""

    name: str
    component: str
    """Kind of entity: "sensor", "binary_sensor", "camera" or "image"."""
    key: str
    """Id that is unique within the source: letters, digits, underscores and hyphens."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The part of its configuration that does not depend on the source."""
    topics: Mapping[str, str] = field(default_factory=lambda: {"state_topic": "state"})
    """Key of the configuration -> topic below that of the source."""


def list_entities(state: Mapping[str, Any], classes: Iterable[str], *, has_pictures: bool) -> Iterator[Entity]:
    """The entities of a source.

    Args:
        state: State of the source, as `edge_mrcnn.live.state.describe_source` gives it.
        classes: Names of the classes that are announced.
        has_pictures: Whether pictures are sent.
    """
    yield make_sensor("State", ("state",), icon="mdi:cctv", is_measured=False)
    yield make_sensor("FPS", ("fps",), unit_of_measurement="FPS", icon="mdi:speedometer")
    for name in classes:
        yield make_sensor(name, ("objects", name), icon="mdi:shape")
        yield make_presence(f"{name} present", ("present", name), f"{json.dumps(name)} in value_json.present")
    for line in state["counts"]["lines"]:
        for direction in ("in", "out"):
            yield make_sensor(f"{line} {direction}", ("counts", "lines", line, direction), is_sum=True, is_total=True)
    for zone in state["counts"]["zones"]:
        inside = ("counts", "zones", zone, "inside")
        yield make_sensor(f"{zone} now", inside, is_sum=True)
        yield make_sensor(f"{zone} in all", ("counts", "zones", zone, "entered"), is_sum=True, is_total=True)
        yield make_presence(f"{zone} occupied", (*inside, "occupied"), f"{find_value(inside)}.values() | sum > 0")
    if has_pictures:
        yield Entity("Picture", "camera", "camera", topics={"topic": SNAPSHOT})
        kind = {"content_type": "image/jpeg"}
        yield Entity("Last event", "image", "last-event", kind, topics={"image_topic": EVENT_SNAPSHOT})


def make_sensor(
    name: str,
    path: tuple[str, ...],
    *,
    is_sum: bool = False,
    is_total: bool = False,
    is_measured: bool = True,
    **details: str,
) -> Entity:
    """A value in the JSON of a source's state.

    Args:
        name: Name that users read.
        path: Keys that lead to the value.
        is_sum: Whether the value is the sum over classes.
        is_total: Whether it only increases.
        is_measured: Whether it is a numeric measurement.
        **details: Further keys of the configuration.
    """
    value = find_value(path)
    config = {"value_template": f"{{{{ {value}.values() | sum }}}}" if is_sum else f"{{{{ {value} }}}}", **details}
    if is_measured:
        config["state_class"] = "total_increasing" if is_total else "measurement"
    return Entity(name, "sensor", make_key(path), config)


def make_presence(name: str, path: tuple[str, ...], condition: str) -> Entity:
    """Whether something is present; unknown while the source sends no frames.

    Args:
        name: Name that users read.
        path: Unique id.
        condition: Template that is true while it is present.
    """
    template = f"{{{{ ('ON' if {condition} else 'OFF') if value_json.state == 'live' else 'None' }}}}"
    return Entity(name, "binary_sensor", make_key(path), {"device_class": "occupancy", "value_template": template})


def find_value(path: Iterable[str]) -> str:
    """The value at keys of a state, as a template names it."""
    return "value_json" + "".join(f"[{json.dumps(key)}]" for key in path)


def make_key(path: Iterable[str]) -> str:
    """Keys of a state, joined as one part of a topic."""
    return "-".join(map(to_topic, path))


def to_topic(text: str) -> str:
    """A topic level that Home Assistant allows: letters, digits, underscores and hyphens.

    Other characters are replaced and a checksum is added, so that two different names never become equal.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")
    return text if plain == text else f"{plain}-{zlib.crc32(text.encode()):08x}"
