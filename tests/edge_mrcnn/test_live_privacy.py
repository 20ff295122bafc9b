"""--blur and --hide: no output shows a covered object."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
from dataclasses import replace

import cv2
import numpy as np
import pytest
from live_servers import Broker, Listener, Receiver, decode_jpeg, needs_broker, wait_for
from live_site import CARD, SIZE_HW, detect

from edge_mrcnn.live.loop import run_loop
from edge_mrcnn.live.outputs.window import Window
from edge_mrcnn.live.privacy import DEFAULT_CONF, Privacy, PrivacySettings
from edge_mrcnn.live.session import Session
from edge_mrcnn.live.settings import make_settings
from runtimes import FakeRuntime, RawOutputs, UsageError
from runtimes.errors import UnavailableError
from runtimes.postprocess import paste_mask
from runtimes.sources import Frame, Source, open_source
from runtimes.sources.pixels import MissingPixels
from runtimes.stream import Stream

BOX = np.array([100, 20, 220, 160], np.float32)
ROUND = np.clip(4 * (0.85 - np.hypot(*np.meshgrid(*[np.linspace(-1, 1, 14, dtype=np.float32)] * 2))) + 0.5, 0, 1)
SQUARES = np.random.default_rng(3).integers(0, 2, (SIZE_HW[0] // 4, SIZE_HW[1] // 4), np.uint8)
PATTERN = cv2.resize(40 + 170 * SQUARES, SIZE_HW[::-1], interpolation=cv2.INTER_NEAREST)
"""Squares of 4 pixels, which survive JPEG and video: the pattern identifies a person."""


class Camera(Source):
    """Somebody who stands still, until nobody wants to see more."""

    is_live = True

    def __init__(self):
        super().__init__("door")
        self._aborted = threading.Event()

    def abort(self):
        self._aborted.set()

    def __iter__(self):
        index = 0
        while not self._aborted.wait(0.03):
            yield Frame(np.repeat(PATTERN[..., None], 3, axis=2), index, index / 30, self.name)
            index += 1


class Flickering:
    """A model that detects a person, with a low score, in five of six frames."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        score = np.array([0.0 if self.calls % 6 == 0 else 0.15], np.float32)
        scale = x.shape[2] / SIZE_HW[1]
        top = (x.shape[1] - scale * SIZE_HW[0]) / 2
        box = BOX[None] * scale + np.array([0, top, 0, top], np.float32)
        return RawOutputs(box, score, np.array([0]), ROUND[None])


def likeness(picture):
    """Correlation of a picture with a person's pattern, over the object's own pixels."""
    picture = cv2.resize(picture, SIZE_HW[::-1], interpolation=cv2.INTER_AREA).mean(axis=2)
    x, y, mask = paste_mask(ROUND, BOX, SIZE_HW)
    window = slice(y, y + mask.shape[0]), slice(x, x + mask.shape[1])
    seen, real = picture[window][mask], PATTERN[window][mask]
    return 0.0 if seen.std() < 1e-6 else abs(float(np.corrcoef(seen, real)[0, 1]))


def read_mjpeg(url, count):
    """The first pictures of a Motion JPEG stream."""
    pictures = []
    with urllib.request.urlopen(url, timeout=10) as response:
        while len(pictures) < count:
            line = response.readline()
            if line.startswith(b"Content-Length"):
                response.readline()
                pictures.append(decode_jpeg(response.read(int(line.split(b":")[1]))))
    return pictures


@contextlib.contextmanager
def everything(tmp_path, monkeypatch, **privacy):
    """A loop with every output that shows pixels; gives a list of (output, picture) that fills."""
    seen = []
    monkeypatch.setattr(cv2, "imshow", lambda _, image: seen.append(("window", image[..., ::-1])))
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1)
    monkeypatch.setattr(Window, "open", classmethod(lambda cls, settings, context: cls()))
    broker, hook = Broker(tmp_path), Receiver()
    listener = Listener(broker)
    settings = make_settings(
        conf=0.1, web=":0", save=tmp_path / "out.mp4", mqtt=broker.url, webhook=f"http://{hook.address}/",
        snapshot="plain", snapshot_every=0.05, zones=["all=0,0 1,0 1,1 0,1"], **privacy,
    )  # fmt: skip
    stream = Stream(FakeRuntime(CARD, Flickering()), Camera())
    live = Session(settings, CARD, stream)
    url = live.outputs.greetings()[0].removeprefix("page: ")

    def loop():
        for frame, _ in run_loop(iter(stream), live):
            seen.append(("caller", frame.image.copy()))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        wait_for(lambda: listener.last("site/door/event/snapshot") and hook.pictures)
        for size in ("large", "small"):
            with urllib.request.urlopen(f"{url}picture.jpg?size={size}", timeout=10) as response:
                seen.append((f"page {size}", decode_jpeg(response.read())))
        seen += [("stream", picture) for picture in read_mjpeg(f"{url}stream.mjpg", 8)]
        yield seen
    finally:
        stream.stop()
        thread.join(10)
        live.close()
        for topic in ("site/door/snapshot", "site/door/event/snapshot"):
            for text in listener.seen[topic]:
                seen.append((topic, decode_jpeg(text.encode(errors="surrogateescape"))))
        seen += [("webhook", picture) for picture in hook.pictures]
        seen += [("recording", frame.image) for frame in open_source(str(tmp_path / "out.mp4"))]
        listener.close()
        broker.stop()
        hook.shutdown()
        hook.server_close()


ALL = {
    "window", "caller", "page large", "page small", "stream", "site/door/snapshot", "site/door/event/snapshot",
    "webhook", "recording",
}  # fmt: skip


@needs_broker
class TestEveryOutput:
    @pytest.mark.parametrize("option", ["blur", "hide"])
    def test_no_person_can_be_recognised(self, tmp_path, monkeypatch, option):
        with everything(tmp_path, monkeypatch, **{option: ["cup"]}) as seen:
            pass
        assert {name for name, _ in seen} == ALL
        worst = {name: max(likeness(picture) for of, picture in seen if of == name) for name in ALL}
        assert all(value < 0.35 for value in worst.values()), worst
        assert sum(name == "caller" for name, _ in seen) > 6, "frames in which nothing was found among them"

    def test_correlation_detects_an_uncovered_person(self, tmp_path, monkeypatch):
        with everything(tmp_path, monkeypatch, blur=["bottle"]) as seen:
            pass
        assert {name for name, _ in seen} == ALL
        least = {name: min(likeness(picture) for of, picture in seen if of == name) for name in ALL}
        assert all(value > 0.6 for value in least.values()), least


class TestPlan:
    def card(self, lowest):
        return replace(CARD, score_threshold=lowest)

    def test_scores_far_below_those_that_are_shown_are_covered(self):
        (plan,) = PrivacySettings(blur=("cup",)).plan(CARD)
        assert (plan.conf, plan.method, plan.labels) == (DEFAULT_CONF, "mosaic", {0})

    def test_blur_and_hide_together(self):
        plans = PrivacySettings(blur=("cup,bottle",), hide=("bottle",)).plan(CARD)
        assert [(plan.method, set(plan.labels)) for plan in plans] == [("mosaic", {0}), ("fill", {1})]

    def test_file_with_a_high_score_threshold_is_warned_of(self, caplog):
        (plan,) = PrivacySettings(blur=("cup",)).plan(self.card(0.3))
        assert plan.conf == 0.3 and "score threshold of this model is 0.3; export it with --conf 0.05" in caplog.text

    def test_score_that_the_file_does_not_give_is_refused(self):
        with pytest.raises(UsageError, match=r"--blur-conf 0.2: the score threshold of this model is 0.3"):
            PrivacySettings(blur=("cup",), conf=0.2).plan(self.card(0.3))

    def test_still_is_refused(self):
        with pytest.raises(UsageError, match="--still cannot be combined with --blur or --hide"):
            make_settings(blur="cup", spares_still=True)

    def test_unknown_class_is_named_with_its_option(self):
        with pytest.raises(UsageError, match=r"--hide: class 'botle': the model has cup, bottle; did you mean bottle"):
            PrivacySettings(hide=("botle",)).plan(CARD)


class TestPixels:
    """A frame of a video is planes of the decoder: RGB, and any smaller size, are made of them when somebody looks."""

    @pytest.fixture
    def frame(self, tmp_path):
        av = pytest.importorskip("av")
        with av.open(str(tmp_path / "clip.mp4"), "w") as container:
            video = container.add_stream("libx264", rate=25)
            video.height, video.width, video.pix_fmt = *SIZE_HW, "yuv420p"
            video.options = {"crf": "5"}
            picture = av.VideoFrame.from_ndarray(np.repeat(PATTERN[..., None], 3, axis=2))
            for packet in [*video.encode(picture), *video.encode()]:
                container.mux(packet)
        source = open_source(str(tmp_path / "clip.mp4"))
        source.input_hw = (96, 160)
        return next(iter(source))

    def protect(self, frame):
        found = Flickering()(np.zeros((1, *SIZE_HW, 3), np.uint8))
        detections = detect((160, 90))
        detections = replace(detections, boxes_xyxy=found.boxes, mask_probs=found.masks)
        return Privacy(PrivacySettings(blur=("cup",)), CARD, {}).protect(frame, detections)

    def test_every_size_is_covered(self, frame):
        assert likeness(frame.pixels.resized((120, 213))) > 0.6
        covered = self.protect(frame)
        assert covered.small is None and frame.small is not None
        for size_hw in ((120, 213), SIZE_HW):
            assert likeness(covered.pixels.resized(size_hw)) < 0.35
        assert likeness(covered.image) < 0.35

    def test_picture_without_viewers_is_not_made(self):
        frame = Frame(MissingPixels(SIZE_HW), 0, 0.0, "door", "door")
        covered = self.protect(frame)
        assert not covered.pixels.is_kept and covered.size_hw == SIZE_HW
        with pytest.raises(UnavailableError):
            covered.pixels.rgb()


def test_images_of_a_folder_hold_nothing_over(tmp_path):
    for index in range(2):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.repeat(PATTERN[..., None], 3, axis=2))
    found = iter([0.9, 0.0])

    def respond(x):
        return Flickering()(x)._replace(scores=np.array([next(found)], np.float32))

    stream = Stream(FakeRuntime(CARD, respond), open_source(str(tmp_path)))
    with Session(make_settings(blur="cup"), CARD, stream) as live:
        first, second = (likeness(frame.image) for frame, _ in run_loop(iter(stream), live))
    assert first < 0.35 and second > 0.99


def test_what_is_covered_need_not_be_shown(tmp_path):
    stream = Stream(FakeRuntime(CARD, Flickering()), Camera())
    settings = make_settings(blur="cup", exclude="cup", conf=0.1, json=tmp_path / "log.jsonl")
    with Session(settings, CARD, stream) as live:
        for frame, found in run_loop(iter(stream), live, limit=3):
            assert len(found) == 0 and likeness(frame.image) < 0.35
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(records) == 3 and not any(record["detections"] for record in records)
