"""MQTT with a real broker on loopback: availability, states, events and Home Assistant's discovery messages."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest
from live_servers import Broker, Listener, needs_broker, wait_for
from live_site import CARD, SIZE_HW, detect, make_frame, make_result

from edge_mrcnn.live.outputs.mqtt import Mqtt, parse_broker
from edge_mrcnn.live.scenes import SceneEvent
from edge_mrcnn.live.snapshots import SnapshotStyle
from runtimes import UsageError
from runtimes.redaction import redact

NAMES = {"front door": "front-door", "rtsp://u:***@cam/live": "cam-live"}
STATE = {
    "name": "front door", "state": "live", "fps": 12.5, "size": list(SIZE_HW), "objects": {"cup": 2},
    "present": ["cup"],
    "counts": {
        "lines": {"gate": {"in": {"cup": 3}, "out": {}}}, "zones": {"yard": {"inside": {"cup": 1}, "entered": {}}},
    },
}  # fmt: skip

pytest.importorskip("paho.mqtt")


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.stop()


@pytest.fixture
def listener(broker):
    listener = Listener(broker)
    yield listener
    listener.close()


@pytest.fixture
def output(broker):
    output = Mqtt(parse_broker(broker.url), CARD, NAMES, lambda: [("front door", STATE)])
    wait_for(output._client.is_connected)
    yield output
    output.close()


@needs_broker
class TestMessages:
    def test_state_is_retained_and_has_every_class(self, output, listener):
        output.tick()
        wait_for(lambda: listener.last("site/front-door/state"))
        state = json.loads(listener.last("site/front-door/state"))
        assert state["name"] == "front-door" and state["objects"] == {"cup": 2, "bottle": 0} and state["fps"] == 12.5
        assert listener.last("site/status") == "online"

    def test_events_go_by_the_public_name(self, output, listener):
        wait_for(lambda: listener.last("site/status"))
        output.put_event(SceneEvent("crossed", "rtsp://u:***@cam/live", {"place": "gate"}))
        wait_for(lambda: listener.last("site/cam-live/event"))
        event = json.loads(listener.last("site/cam-live/event"))
        assert (event["event"], event["source"], event["place"]) == ("crossed", "cam-live", "gate")
        assert [samples for _, _, samples in output.tallies()] == [
            [({"result": "sent"}, 1), ({"result": "dropped"}, 0)]
        ]

    def test_home_assistant_discovers_every_value(self, output, listener):
        jinja2 = pytest.importorskip("jinja2")
        output.tick()
        wait_for(lambda: listener.last("site/front-door/state"))
        configs = [json.loads(v[-1]) for topic, v in listener.seen.items() if topic.startswith("homeassistant/")]
        topics = [topic for topic in listener.seen if "assist" in topic]
        assert all(re.fullmatch(r"homeassistant/(binary_)?sensor/[\w-]+/[\w-]+/config", topic) for topic in topics)
        state = json.loads(listener.last("site/front-door/state"))
        render = jinja2.Environment().from_string
        values = {c["name"]: render(c["value_template"]).render(value_json=state) for c in configs}
        assert values == {
            "State": "live", "FPS": "12.5", "cup": "2", "bottle": "0", "gate in": "3", "gate out": "0",
            "yard now": "1", "yard in all": "0", "cup present": "ON", "bottle present": "OFF", "yard occupied": "ON",
        }  # fmt: skip
        assert len({c["unique_id"] for c in configs}) == len(configs) == 11
        presences = [c for c in configs if c.get("device_class") == "occupancy"]
        lost = {**state, "state": "lost"}
        assert {render(c["value_template"]).render(value_json=lost) for c in presences} == {"None"}, "nobody knows"
        availability = render(configs[0]["availability_template"])
        assert [availability.render(value=v) for v in ("online", "stopped", "offline")] == [
            "online",
            "offline",
            "offline",
        ]
        assert {c["availability_topic"] for c in configs} == {"site/status"}

    @pytest.mark.parametrize("kind", ["drawn", "plain"])
    def test_pictures_come_with_events_and_from_time_to_time(self, broker, listener, kind):
        style = SnapshotStyle(kind=kind, max_side=160)
        settings = {"snapshot": style, "snapshot_every_s": 0.2, "classes": ("cup",)}
        output = Mqtt(parse_broker(broker.url), CARD, NAMES, lambda: [("front door", STATE)], **settings)
        try:
            wait_for(output._client.is_connected)
            output.put(make_result(make_frame(source="front door"), detect((160, 90))))
            wait_for(lambda: listener.last("site/front-door/snapshot"))
            picture = listener.last_picture("site/front-door/snapshot")
            assert picture.shape == (90, 160, 3) and abs(picture[2, 2].astype(int) - 90).max() < 6
            is_drawn = abs(picture[45, 80].astype(int) - 90).max() > 20
            assert is_drawn == (kind == "drawn")
            assert not listener.last("site/front-door/event/snapshot")
            output.put_event(SceneEvent("appeared", "front door", {"class": "cup"}))
            wait_for(lambda: listener.last("site/front-door/event/snapshot"))
            output.tick()
            wait_for(lambda: listener.last("homeassistant/image/site-front-door/last-event/config"))
            camera = json.loads(listener.last("homeassistant/camera/site-front-door/camera/config"))
            image = json.loads(listener.last("homeassistant/image/site-front-door/last-event/config"))
            assert (camera["topic"], image["image_topic"]) == (
                "site/front-door/snapshot",
                "site/front-door/event/snapshot",
            )
            assert image["content_type"] == "image/jpeg" and "state_topic" not in {**camera, **image}
            assert not any("bottle" in topic for topic in listener.seen), "a class that is left out"
        finally:
            output.close()

    def test_a_lost_source_sends_no_old_picture(self, broker, listener):
        style = SnapshotStyle(kind="plain")
        output = Mqtt(parse_broker(broker.url), CARD, NAMES, list, snapshot=style, snapshot_every_s=0)
        try:
            wait_for(output._client.is_connected)
            output.put(make_result(make_frame(source="front door"), detect()))
            output.put_event(SceneEvent("source", "front door", {"state": "lost"}))
            wait_for(lambda: listener.last("site/front-door/event"))
        finally:
            output.close()
        wait_for(lambda: listener.last("site/status") == "stopped")
        assert not [topic for topic in listener.seen if topic.endswith("snapshot")]

    def test_clean_end_says_stopped(self, broker, listener):
        output = Mqtt(parse_broker(broker.url), CARD, NAMES, lambda: [])
        wait_for(lambda: listener.last("site/status") == "online")
        start = time.monotonic()
        output.close()
        assert time.monotonic() - start < 2
        wait_for(lambda: listener.last("site/status") == "stopped")

    def test_restarted_broker_gets_all_states_again(self, broker, output):
        broker.stop()
        output.tick()
        output.put_event(SceneEvent("crossed", "front door", {"place": "gate"}))
        broker.start()
        again = Listener(broker)
        try:
            wait_for(lambda: again.last("site/status") == "online")
            output.tick()
            wait_for(lambda: again.last("site/front-door/state"))
            wait_for(lambda: again.last("site/front-door/event"))
            assert sum(topic.startswith("homeassistant/") for topic in again.seen) == 11
        finally:
            again.close()

    def test_frozen_broker_delays_neither_the_loop_nor_the_end(self, broker, output):
        broker.process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        for _ in range(200):
            output.put_event(SceneEvent("gone", "front door", {}))
        output.tick()
        assert time.monotonic() - start < 1
        output.close()
        assert time.monotonic() - start < 3
        assert next(iter(output.tallies()))[2][1][1] >= 50, "those beyond the queue are counted as dropped"

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
    def test_a_client_that_dies_or_freezes_is_offline(self, broker, listener, number):
        code = """
            import sys, time
            sys.path[:0] = sys.argv[2:]
            from live_site import CARD
            from edge_mrcnn.live.outputs import mqtt
            mqtt.KEEPALIVE_S = 2
            output = mqtt.Mqtt(mqtt.parse_broker(sys.argv[1]), CARD, {}, lambda: [])
            time.sleep(60)
        """
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), broker.url, *sys.path])
        try:
            wait_for(lambda: listener.last("site/status") == "online", 30)
            child.send_signal(number)
            start = time.monotonic()
            wait_for(lambda: listener.last("site/status") == "offline", 15)
            # The broker allows one and a half keepalives, and looks every five seconds.
            assert time.monotonic() - start < (1.0 if number == signal.SIGKILL else 1.5 * 2 + 6)
        finally:
            child.kill()
            child.wait()

    def test_a_wrong_password_is_a_warning_without_it(self, broker, caplog):
        url = broker.url.replace("p%40ss%2Fw", "wr0ng%2Fsecret")
        output = Mqtt(parse_broker(url), CARD, NAMES, lambda: [])
        wait_for(lambda: "refused" in caplog.text)
        output.close()
        assert "wr0ng" not in redact(caplog.text) and "127.0.0.1" in caplog.text


def test_a_broker_that_is_away_is_no_error():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        output = Mqtt(parse_broker(f"mqtt://127.0.0.1:{probe.getsockname()[1]}"), CARD, NAMES, lambda: [])
        output.tick()
        start = time.monotonic()
        output.close()
        assert time.monotonic() - start < 1


def test_urls_of_brokers(monkeypatch):
    monkeypatch.setenv("EDGE_MRCNN_MQTT_PASSWORD", "from outside")
    broker = parse_broker("mqtt://host")
    assert (broker.host, broker.port, broker.prefix, broker.password) == ("host", 1883, "edge-mrcnn", "from outside")
    broker = parse_broker("mqtts://us.er:p@ss:w%2Ford@[::1]:99/a/b/")
    assert (broker.host, broker.port, broker.is_encrypted, broker.prefix) == ("::1", 99, True, "a/b")
    assert (broker.user, broker.password) == ("us.er", "p@ss:w/ord")
    assert redact("refused: p@ss:w/ord") == "refused: ***"


@pytest.mark.parametrize(
    "url", ["host", "http://host", "mqtt://", "mqtt://host/a/#", "mqtt://host/+/b", "mqtt://ho st"]
)
def test_other_urls_are_usage_errors(url):
    with pytest.raises(UsageError, match="mqtt://HOST"):
        parse_broker(url)


class TestAway:
    @pytest.mark.parametrize("case", ["refused", "silent", "unknown host", "no host name"])
    def test_unreachable_broker_is_reported_once_and_at_the_end(self, case, monkeypatch, caplog):
        monkeypatch.setattr("edge_mrcnn.live.outputs.mqtt.AWAY_S", 0.3)
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            if case == "silent":
                server.listen()
            port = server.getsockname()[1]
            host = {"unknown host": "no-such-host.invalid", "no host name": "a" * 70}.get(case, "127.0.0.1")
            output = Mqtt(parse_broker(f"mqtt://{host}:{port}"), CARD, NAMES, lambda: [])
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                output.tick()
                time.sleep(0.05)
            output.close()
        lines = [record.getMessage() for record in caplog.records if "cannot be reached" in record.getMessage()]
        assert len(lines) == 1 and f"MQTT broker {host}:{port}: cannot be reached, reconnecting: " in lines[0]
        assert "could not be reached" in output.failure and output.error is None
        if case == "refused":
            assert "refused" in lines[0]
