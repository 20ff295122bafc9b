"""Metrics, events, webhook, COCO results and notification: against a real parser, real servers and real sockets."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from live_servers import Receiver, wait_for
from live_site import CARD, Moving, detect, detect_three, make_frame, make_result

from edge_mrcnn.live.controls import Controls
from edge_mrcnn.live.metrics import render_metrics
from edge_mrcnn.live.monitor import BUCKETS_S, Health, Histogram, Monitor
from edge_mrcnn.live.names import name_publicly
from edge_mrcnn.live.notify import Notifier
from edge_mrcnn.live.outputs.base import Output
from edge_mrcnn.live.outputs.coco import CocoResults, name_image, name_images
from edge_mrcnn.live.outputs.group import Outputs
from edge_mrcnn.live.outputs.json_lines import JsonLines
from edge_mrcnn.live.outputs.webhook import Webhook
from edge_mrcnn.live.scenes import SceneEvent, Scenes
from edge_mrcnn.live.session import Session
from edge_mrcnn.live.settings import make_settings
from edge_mrcnn.live.snapshots import SnapshotStyle
from runtimes import FakeRuntime, UsageError
from runtimes.counting import parse_line, parse_zone
from runtimes.errors import UnavailableError
from runtimes.sources import ImageSource
from runtimes.stream import SourceStatus, Stream

URL = "rtsp://first.last:p@ss/w%40rd@cam.local:554/live?password=hushhush"
SECRETS = ("p@ss", "w%40rd", "w@rd", "hushhush")
STATUS = SourceStatus(
    name="door", state="live", error="", received=120, processed=100, dropped={"late": 18, "damaged": 1}, in_flight=1,
    reconnects=2, stalls=1, last_frame_age_s=0.04, fps=12.5, source_fps=25.0, size_hw=(720, 1280),
)  # fmt: skip


class TestMetrics:
    @pytest.fixture
    def families(self):
        parser = pytest.importorskip("prometheus_client.parser")
        monitor = Monitor(lambda: [STATUS, replace(STATUS, name=URL, state="lost", error=f"cannot open {URL}")])
        for index in range(5):
            monitor.put(make_frame(index), detect((50, 50), (90, 50), labels=[0, 1]))
            monitor.put(make_frame(index, source=URL), detect((50, 50)))
        extra = [("webhook_events", "Events.", [({"result": "sent"}, 3)])]
        self.text = render_metrics(monitor, CARD, extra)
        return {family.name: family for family in parser.text_string_to_metric_families(self.text)}

    def value(self, families, family, **labels):
        (value,) = [s.value for s in families[family].samples if labels.items() <= s.labels.items()]
        return value

    def test_the_accounts_of_each_source_balance(self, families):
        received = self.value(families, "edge_mrcnn_frames_received", source="door")
        dropped = sum(s.value for s in families["edge_mrcnn_frames_dropped"].samples if s.labels["source"] == "door")
        processed = self.value(families, "edge_mrcnn_frames_processed", source="door")
        assert received == processed + dropped + self.value(families, "edge_mrcnn_frames_in_flight", source="door")

    def test_counters_end_in_total_and_every_family_has_a_type_and_help(self, families):
        for family in families.values():
            assert family.type in ("counter", "gauge", "histogram") and family.documentation
            if family.type == "counter":
                assert all(sample.name.endswith("_total") for sample in family.samples)

    def test_times_are_histograms_per_stage(self, families):
        samples = [s for s in families["edge_mrcnn_stage_seconds"].samples if s.labels["source"] == "door"]
        buckets = [s for s in samples if s.name.endswith("_bucket") and s.labels["stage"] == "inference"]
        assert [s.labels["le"] for s in buckets] == [*map(str, BUCKETS_S), "+Inf"]
        assert [s.value for s in buckets] == sorted(s.value for s in buckets)
        assert buckets[-1].value == 5 and next(s.value for s in buckets if s.labels["le"] == "0.01") == 0
        assert {s.labels["stage"] for s in samples} == {"preprocess", "inference", "postprocess"}

    def test_states_objects_and_extra_counters(self, families):
        assert self.value(families, "edge_mrcnn_source_state", source="door", state="live") == 1
        assert self.value(families, "edge_mrcnn_source_state", source="door", state="lost") == 0
        assert self.value(families, "edge_mrcnn_objects", **{"source": "door", "class": "bottle"}) == 1
        assert self.value(families, "edge_mrcnn_objects", **{"source": "door", "class": "cup"}) == 1
        assert self.value(families, "edge_mrcnn_webhook_events", result="sent") == 3

    def test_labels_are_names_never_urls(self, families):
        assert {s.labels["source"] for f in families.values() for s in f.samples if "source" in s.labels} == {
            "door", "cam.local-live",
        }  # fmt: skip
        assert "://" not in self.text and not any(secret in self.text for secret in SECRETS)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["front door", "0", "/dev/video2", "clips/a b.mp4"], ["front-door", "camera-0", "video2", "a-b.mp4"]),
        ([URL, "rtsp://cam.local/live"], ["cam.local-live", "cam.local-live-2"]),
        (["rtsp://user@host:8554/", "http://[::1]:80/a?b=c"], ["host", "1-a"]),
        (["Tür", "://"], ["Tür", "source"]),
    ],
)
def test_public_names_hold_no_address_and_differ(labels, names):
    assert list(name_publicly(labels).values()) == names


def test_percentiles_are_of_recent_frames_and_memory_is_bounded():
    histogram = Histogram()
    for value in [1.0] * 1000 + [0.02] * 256:
        histogram.add(value)
    assert histogram.percentiles_ms(50, 90) == pytest.approx([20, 20])
    assert sum(histogram.counts) == 1256 and len(histogram.recent_s) == 256


class TestHealth:
    @pytest.fixture
    def monitor(self):
        self.now, self.statuses = 100.0, [STATUS]
        return Monitor(lambda: self.statuses, clock=lambda: self.now)

    def test_well_only_while_frames_are_processed(self, monitor):
        assert not monitor.health().is_ok and "no frame yet" in monitor.health().reason
        monitor.put(make_frame(), detect())
        assert monitor.health().is_ok
        self.now += 12
        self.statuses = [replace(STATUS, state="lost", error="nothing listens there")]
        assert monitor.health() == Health(False, "no frame for 12 s; door: lost (nothing listens there)")

    def test_requested_pause_of_all_sources_is_healthy_of_one_is_not(self, monitor):
        paused, lost = replace(STATUS, state="paused"), replace(STATUS, name="yard", state="lost")
        self.statuses = [paused]
        assert monitor.health().is_ok
        self.statuses = [paused, lost]
        assert not monitor.health().is_ok

    def test_one_source_of_two_is_enough(self, monitor):
        self.statuses = [STATUS, replace(STATUS, name="yard", state="lost")]
        monitor.put(make_frame(), detect())
        assert monitor.health().is_ok


class TestScenes:
    def update(self, scenes, *founds, step_s=0.1):
        happened = []
        for index, found in enumerate(founds):
            self.found, new = scenes.update(make_frame(index, time_s=index * step_s), found)
            happened += new
        return [(h.kind, h.details) for h in happened]

    def test_classes_appear_and_are_gone_once(self):
        scenes = Scenes(Controls(0.5, lambda *_: None))
        both, none = detect((50, 50), (90, 50), labels=[0, 1]), detect()
        happened = self.update(scenes, detect((50, 50)), both, none, both, *[none] * 25)
        assert [(kind, details["class"]) for kind, details in happened] == [
            ("appeared", "cup"), ("appeared", "bottle"), ("gone", "cup"), ("gone", "bottle"),
        ]  # fmt: skip
        assert [details.get("count") for _, details in happened] == [1, 1, None, None]
        (cup,) = happened[0][1]["objects"]
        assert (cup["class"], cup["bbox"], cup["centroid"]) == ("cup", [35, 35, 30, 30], [50, 50])
        assert cup["area"] == pytest.approx(900, rel=0.01)
        assert cup["area_share"] == pytest.approx(900 / (180 * 320), rel=0.01)

    def test_classes_in_view_are_known_while_they_flicker(self):
        scenes = Scenes(Controls(0.5, lambda *_: None))
        assert scenes.present("door") == []
        self.update(scenes, detect((50, 50)), detect())
        assert scenes.present("door") == ["cup"]
        self.update(scenes, *[detect()] * 40)
        assert scenes.present("door") == []

    def test_excluded_classes_are_in_no_output(self):
        places = {"lines": [parse_line("gate=0,0.5,1,0.5", "")], "keeps": np.array([False, True])}
        scenes = Scenes(Controls(0.5, lambda *_: None), **places)
        walks = [detect((100, y), (200, y), labels=[0, 1]) for y in range(20, 160, 8)]
        assert {details["class"] for _, details in self.update(scenes, *walks)} == {"bottle"}
        assert self.found.labels.tolist() == [1]
        assert scenes.counts("door")["lines"] == {"gate": {"in": {"bottle": 1}, "out": {}}}

    def test_threshold_follows_the_controls(self):
        controls = Controls(0.5, lambda *_: None)
        scenes = Scenes(controls)
        found = detect((50, 50), (90, 50), scores=[0.9, 0.3])
        self.update(scenes, found)
        assert len(self.found) == 1
        controls.conf = 0.2
        self.update(scenes, found)
        assert len(self.found) == 2
        with pytest.raises(ValueError, match="from 0 to 1"):
            controls.conf = 2

    @pytest.mark.parametrize(("is_tracked", "shown", "lowest"), [(True, [0.9, 0.3], 0.25), (False, [0.9], 0.5)])
    def test_lowest_score_of_what_is_shown_is_said(self, is_tracked, shown, lowest):
        scenes = Scenes(Controls(0.5, lambda *_: None), is_tracked=is_tracked)
        sure = detect((50, 50), (90, 50), scores=[0.9, 0.8])
        self.update(scenes, sure, sure, sure, detect((50, 50), (90, 50), scores=[0.9, 0.3]))
        assert self.found.scores.tolist() == pytest.approx(shown)
        assert scenes.lowest_score == lowest

    def test_lines_and_zones_make_events_and_counts(self):
        places = {"lines": [parse_line("gate=0,0.5,1,0.5", "")], "zones": [parse_zone("yard=0,.6 1,.6 1,1 0,1", "")]}
        scenes = Scenes(Controls(0.5, lambda *_: None), pixel_mm=2, **places)
        happened = self.update(scenes, *[detect((100, y)) for y in range(20, 160, 8)])
        assert [kind for kind, _ in happened] == ["appeared", "crossed", "entered"]
        told = {"place": "gate", "direction": "in", "track_id": 1, "class": "cup"}
        assert told.items() <= happened[1][1].items()
        assert happened[1][1]["area_mm2"] == pytest.approx(4 * happened[1][1]["area"], rel=1e-3)
        assert scenes.counts("door")["lines"] == {"gate": {"in": {"cup": 1}, "out": {}}}
        assert scenes.counts("unknown") == {"lines": {}, "zones": {}}
        assert self.found.ids.tolist() == [1]
        image = np.zeros((180, 320, 3), np.uint8)
        scenes.draw("door", image)
        assert image[90].any()

    def test_sources_do_not_share_numbers(self):
        scenes = Scenes(Controls(0.5, lambda *_: None), is_tracked=True)
        for source in ("door", "yard"):
            for index in range(3):
                found, _ = scenes.update(make_frame(index, source, index * 0.1), detect((100, 90)))
            assert found.ids.tolist() == [1]

    def test_message_has_time_and_source(self):
        message = SceneEvent("crossed", "door", {"place": "gate"}, time_s=1.5).to_dict()
        assert message == {
            "event": "crossed", "source": "door", "time": "1970-01-01T00:00:01.500Z", "place": "gate",
        }  # fmt: skip


class TestCocoResults:
    def test_file_grows_and_is_valid_at_the_end(self, tmp_path):
        path = tmp_path / "new" / "results.json"
        output = CocoResults(path, lambda frame: frame.index)
        for index in range(3):
            output.put(make_result(make_frame(index), detect((50, 50), (90, 90))))
        output.close()
        output.close()
        records = json.loads(path.read_text())
        assert [r["image_id"] for r in records] == [0, 0, 1, 1, 2, 2] and records[0]["category_id"] == 1

    def test_nothing_found_is_an_empty_list(self, tmp_path):
        output = CocoResults(tmp_path / "results.json", lambda frame: 0)
        output.put(make_result(make_frame(), detect()))
        output.close()
        assert json.loads((tmp_path / "results.json").read_text()) == []

    def test_images_keep_their_ids_and_never_share_one(self):
        def ids(*paths):
            return list(name_images({"a": ImageSource("a", [Path(path) for path in paths])}).values())

        assert ids("photos/000042.jpg", "photos/cat.jpg") == [42, "cat.jpg"]
        assert ids("a/1.png", "b/1.png", "b/2.png") == ["a/1.png", "b/1.png", "b/2.png"]
        assert ids("a/1.png", "a/01.png") == ["a/1.png", "a/01.png"]

    def test_frames_go_by_number_and_source(self):
        frame = replace(make_frame(7), name="photos/000042.jpg")
        assert name_image(frame, names={("door", "photos/000042.jpg"): 42}, is_alone=True) == 42
        assert name_image(frame, names={}, is_alone=True) == 7
        assert name_image(frame, names={}, is_alone=False) == "door/7"

    def test_unwritable_folder_is_reported_at_the_start(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UnavailableError, match="cannot be written"):
            CocoResults(tmp_path / "file" / "x.json", lambda frame: 0)


class TestJsonLines:
    def test_each_frame_is_a_line_at_once(self, tmp_path):
        output = JsonLines(tmp_path / "new" / "out.jsonl", lambda source: {"lines": {"gate": {"in": {}, "out": {}}}})
        output.put(make_result(make_frame(3), detect((50, 50))))
        (line,) = (tmp_path / "new" / "out.jsonl").read_text().splitlines()
        record = json.loads(line)
        assert (record["frame"], record["source"], len(record["detections"])) == (3, "door", 1)
        assert record["lines"] == {"gate": {"in": {}, "out": {}}}
        output.close()

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    def test_a_full_disk_ends_the_file_and_nothing_else(self, tmp_path, caplog):
        full, well = JsonLines(Path("/dev/full"), lambda _: {}), JsonLines(tmp_path / "x", lambda _: {})
        outputs = Outputs([full, well])
        for index in range(3):
            outputs.put(make_result(make_frame(index), detect()))
        outputs.close()
        assert len((tmp_path / "x").read_text().splitlines()) == 3
        assert [record.getMessage() for record in caplog.records] == [
            "--json /dev/full stopped, everything else continues: No space left on device"
        ]


def test_an_output_that_fails_is_left_out_with_one_message(caplog):
    class Full(Output):
        calls = Counter()

        def put(self, result):
            self.calls["put"] += 1
            raise OSError(28, f"No space left on {URL}")

        def close(self):
            self.calls["close"] += 1

    class Well(Output):
        frames = 0

        def put(self, result):
            self.frames += 1

    full, well = Full(), Well()
    outputs = Outputs([full, well])
    for index in range(3):
        outputs.put(make_result(make_frame(index), detect()))
    outputs.close()
    assert full.calls == {"put": 1, "close": 1} and well.frames == 3
    assert len(caplog.records) == 1 and not any(secret in caplog.text for secret in SECRETS)


class TestWebhook:
    @pytest.fixture
    def serve(self):
        started = []

        def start(*answers):
            started.append(Receiver(*answers))
            return started[-1]

        yield start
        for receiver in started:
            receiver.shutdown()
            receiver.server_close()

    def counts(self, hook):
        return {labels["result"]: count for _, _, samples in hook.tallies() for labels, count in samples}

    def test_events_arrive_as_json(self, serve):
        receiver = serve()
        hook = Webhook(f"http://cam:s3cret%40x@{receiver.address}/hook")
        hook.put_event(SceneEvent("crossed", "door", {"place": "gate", "class": "cup"}))
        hook.close()
        ((headers, body),) = receiver.requests
        assert (body["event"], body["source"], body["place"], len(body["id"])) == ("crossed", "door", "gate", 36)
        assert headers["Authorization"] == "Basic Y2FtOnMzY3JldEB4" and headers["Content-Type"] == "application/json"
        assert self.counts(hook) == {"sent": 1, "failed": 0, "dropped": 0}

    def test_picture_comes_with_the_event(self, serve):
        receiver = serve()
        hook = Webhook(f"http://{receiver.address}/hook", snapshot=SnapshotStyle(kind="drawn", max_side=160))
        hook.put(make_result(make_frame(), detect((160, 90))))
        hook.put_event(SceneEvent("appeared", "door", {"class": "cup"}))
        hook.put_event(SceneEvent("source", "door", {"state": "lost"}))
        wait_for(lambda: len(receiver.requests) == 2)
        hook.close()
        (picture,) = receiver.pictures
        assert picture.shape == (90, 160, 3) and abs(picture[45, 80].astype(int) - 90).max() > 20
        assert [body["event"] for _, body in receiver.requests].count("appeared") == 1

    def test_frames_that_cannot_be_encoded_in_time_cost_the_picture_alone(self, serve, monkeypatch):
        slow = threading.Event()
        monkeypatch.setattr("edge_mrcnn.live.snapshots.encode_snapshot", lambda *_: slow.wait(5) and b"\xff\xd8")
        monkeypatch.setattr("live_servers.decode_jpeg", bytes)
        receiver = serve()
        hook = Webhook(f"http://{receiver.address}/hook", snapshot=SnapshotStyle(kind="plain"))
        for index in range(10):
            hook.put(make_result(make_frame(index), detect()))
            hook.put_event(SceneEvent("appeared", "door", {"class": "cup"}))
        wait_for(lambda: len(receiver.requests) >= 5)
        assert not receiver.pictures
        slow.set()
        wait_for(lambda: len(receiver.requests) == 10)
        hook.close()
        assert len(receiver.pictures) in (4, 5), "those that waited, and the one that was at work"

    def test_a_server_in_trouble_is_tried_again_with_the_same_id(self, serve):
        receiver = serve(503, 500, 200)
        hook = Webhook(f"http://{receiver.address}/", pauses_s=(0.01, 0.01, 0.01))
        hook.put_event(SceneEvent("gone", "door", {}))
        wait_for(lambda: self.counts(hook)["sent"] == 1)
        assert len({body["id"] for _, body in receiver.requests}) == 1 and len(receiver.requests) == 3
        hook.close()

    def test_a_server_that_took_nothing_makes_the_run_incomplete(self):
        hook = Webhook("http://127.0.0.1:1/secret-path")
        hook.put_event(SceneEvent("gone", "door", {}))
        hook.close()
        assert hook.failure == "127.0.0.1 accepted no event: Connection refused"

    @pytest.mark.parametrize("code", [400, 404, 302])
    def test_a_refusal_is_final_and_redirections_are_not_followed(self, serve, code, caplog):
        receiver = serve(code)
        hook = Webhook(f"http://{receiver.address}/very-secret-path?key=hushhush", pauses_s=(0.01,))
        hook.put_event(SceneEvent("gone", "door", {}))
        wait_for(lambda: self.counts(hook)["failed"] == 1)
        assert len(receiver.requests) == 1 and f"responds with {code}" in caplog.text
        assert "secret" not in caplog.text and "hushhush" not in caplog.text
        hook.close()

    def test_a_dead_server_costs_the_loop_nothing_and_drops_are_counted(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            hook = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/")
            start = time.perf_counter()
            for _ in range(150):
                hook.put_event(SceneEvent("gone", "door", {}))
            assert time.perf_counter() - start < 0.5
            start = time.perf_counter()
            hook.close()
            assert time.perf_counter() - start < 1.5
        counts = self.counts(hook)
        assert counts["sent"] == 0 and 149 <= counts["dropped"] + counts["failed"] <= 151

    @pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/passwd", "host", "http://"])
    def test_other_urls_are_usage_errors(self, url):
        with pytest.raises(UsageError, match="http://"):
            Webhook(url)


class TestNotifier:
    @pytest.fixture(params=["file", "abstract"])
    def manager(self, request, tmp_path):
        """A service manager's socket, and the environment that names it."""
        path = str(tmp_path / "s") if request.param == "file" else f"@edge-mrcnn-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.bind("\0" + path[1:] if path.startswith("@") else path)
            channel.setblocking(False)
            yield channel, {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "4000000"}

    def read(self, channel):
        messages = []
        while True:
            try:
                messages.append(channel.recv(4096).decode().splitlines()[0])
            except BlockingIOError:
                return messages

    def test_ready_once_then_alive_at_half_the_time_allowed(self, manager):
        channel, environment = manager
        now = [0.0]
        notifier = Notifier(environment, clock=lambda: now[0])
        assert self.read(channel) == []
        for now[0] in (0.0, 1.0, 1.9, 2.0, 3.0, 4.0):
            notifier.alive("well")
        assert self.read(channel) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]
        notifier.stopping()
        assert self.read(channel) == ["STOPPING=1"]

    def test_works_with_the_variable_unset_and_the_manager_gone(self, tmp_path):
        for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1"}):
            notifier = Notifier(environment)
            notifier.alive()
            notifier.stopping()

    def test_session_is_ready_after_a_result_and_silent_without_frames(self, manager, monkeypatch):
        channel, environment = manager
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("edge_mrcnn.live.session.TICK_S", 0.05)
        monkeypatch.setattr("edge_mrcnn.live.monitor.HEALTHY_S", 0.3)
        stream = Stream(FakeRuntime(CARD, detect_three), {"door": Moving("door")})
        with Session(make_settings(), CARD, stream) as session:
            time.sleep(0.3)
            assert self.read(channel) == []
            for index in range(20):
                session.put(make_frame(index), detect())
                time.sleep(0.02)
            assert self.read(channel)[:2] == ["READY=1", "WATCHDOG=1"]
            time.sleep(0.5)
            self.read(channel)
            session._notifier._patted_s = float("-inf")
            time.sleep(0.3)
            assert self.read(channel) == []
        assert self.read(channel) == ["STOPPING=1"]


class TestSession:
    def test_everything_together(self, tmp_path):
        stream = Stream(FakeRuntime(CARD, detect_three), {"door": Moving("door")})
        settings = make_settings(web=":0", coco=tmp_path / "results.json", lines=(parse_line("0,.5,1,.5", "gate"),))
        threads = threading.active_count()
        with Session(settings, CARD, stream) as session:
            assert session.outputs.greetings()[0].startswith("page: http://127.0.0.1:")
            for index, (frame, found) in enumerate(stream):
                _, found = session.put(frame, found)
                assert len(found) == 2
                if index == 10:
                    break
            session.add_times("door", {"draw": 3.0})
            assert ("door", "draw") in session.monitor.times()
        assert found.ids.tolist() == [1, 2]
        assert len(json.loads((tmp_path / "results.json").read_text())) == 22
        wait_for(lambda: threading.active_count() <= threads)

    def test_nothing_is_left_open_when_one_part_cannot_be(self, tmp_path):
        stream = Stream(FakeRuntime(CARD, detect_three), {"door": Moving("door")})
        threads = threading.active_count()
        settings = make_settings(web="0.0.0.0:0", coco=tmp_path / "results.json")
        with pytest.raises(UsageError, match="needs --web-token"):
            Session(settings, CARD, stream)
        assert not (tmp_path / "results.json").exists()
        assert threading.active_count() == threads

    def test_states_of_sources_are_reported(self, monkeypatch):
        monkeypatch.setattr("edge_mrcnn.live.session.TICK_S", 0.02)
        stream = Stream(FakeRuntime(CARD, detect_three), {"door": Moving("door")})
        state = ["live"]
        monkeypatch.setattr(stream, "status", lambda: (replace(STATUS, state=state[0], error="gone"),))
        with Session(make_settings(), CARD, stream) as session:
            seen = []
            monkeypatch.setattr(session.outputs, "put_event", seen.append)
            time.sleep(0.1)
            state[0] = "lost"
            wait_for(lambda: seen)
            time.sleep(0.1)
        assert [(h.kind, h.source, h.details) for h in seen] == [
            ("source", "door", {"state": "lost", "before": "live", "error": "gone"})
        ]
