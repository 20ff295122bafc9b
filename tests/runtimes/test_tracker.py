"""Objects on known paths: each keeps one track id, and every count is exact."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from runtimes import Detections, UsageError
from runtimes.counting import Event, PlaceCounter, parse_line, parse_zone
from runtimes.tracker import NO_ID, Tracker, TrackerConfig, assign, choose_pairs, measure_overlap

WIDTH, HEIGHT = 640, 480
FPS = 20


def detect(*objects, labels=None, scores=None) -> Detections:
    """Detections whose boxes are 40 x 60 pixels around the given centres."""
    centers = np.array(objects, np.float32).reshape(-1, 2)
    boxes = np.hstack([centers - (20, 30), centers + (20, 30)]).astype(np.float32)
    count = len(boxes)
    return Detections(
        boxes_xyxy=boxes,
        scores=np.array(scores or [0.9] * count, np.float32),
        labels=np.array(labels or [0] * count, np.int64),
        mask_probs=np.ones((count, 14, 14), np.float32),
        image_size_hw=(HEIGHT, WIDTH),
        names=("cat", "dog"),
        category_ids=(17, 18),
    )


def walk(start, end, frames):
    """Centres on a straight line."""
    return [tuple(point) for point in np.linspace(start, end, frames)]


def track(frames, *, fps=FPS, config=None):
    """Numbers of each frame's objects, in the order in which they were given."""
    tracker = Tracker(config)
    return [tracker.update(found, index / fps).ids.tolist() for index, found in enumerate(frames)]


class TestTracker:
    def test_an_object_keeps_its_number_after_the_second_sighting(self):
        frames = [detect(point) for point in walk((40, 100), (600, 300), 30)]
        assert track(frames) == [[NO_ID]] + [[1]] * 29

    def test_a_single_false_alarm_gets_no_number(self):
        frames = [detect((100, 100))] * 3 + [detect((100, 100), (400, 300))] + [detect((100, 100))] * 3
        assert {number for ids in track(frames) for number in ids} == {NO_ID, 1}

    def test_two_objects_that_cross_keep_their_numbers(self):
        first, second = walk((60, 100), (580, 360), 40), walk((580, 100), (60, 360), 40)
        ids = track([detect(a, b) for a, b in zip(first, second, strict=True)])
        assert ids[1:] == [[1, 2]] * 39

    def test_two_objects_that_meet_and_hide_each_other_keep_their_numbers(self):
        first, second = walk((60, 200), (580, 200), 40), walk((580, 210), (60, 210), 40)
        frames = []
        for a, b in zip(first, second, strict=True):
            frames.append(detect(a, b) if abs(a[0] - b[0]) > 36 else detect(a))
        ids = track(frames)
        assert ids[5] == [1, 2] == ids[-1]

    def test_an_object_keeps_its_number_behind_an_obstacle(self):
        path = walk((40, 200), (600, 200), 56)
        frames = [detect() if 20 <= index < 34 else detect(point) for index, point in enumerate(path)]
        assert track(frames)[-1] == [1]

    def test_an_object_that_is_away_for_too_long_is_another(self):
        frames = [detect((100, 100))] * 5 + [detect()] * (2 * FPS + 2) + [detect((100, 100))] * 5
        assert track(frames)[-1] == [2]

    def test_an_unconfident_detection_continues_a_track_but_begins_none(self):
        points = walk((100, 100), (200, 100), 10)
        scores = [0.9, 0.9, 0.2, 0.2, 0.9, 0.2, 0.9, 0.9, 0.9, 0.9]
        frames = [detect(p, (400, 300), scores=[s, 0.3]) for p, s in zip(points, scores, strict=True)]
        assert track(frames) == [[NO_ID]] + [[1]] * 9

    def test_classes_are_not_confused(self):
        cats, dogs = walk((60, 200), (580, 200), 30), walk((580, 200), (60, 200), 30)
        ids = track([detect(a, b, labels=[0, 1]) for a, b in zip(cats, dogs, strict=True)])
        assert ids[1:] == [[1, 2]] * 29

    def test_uneven_times_and_dropped_frames_do_not_matter(self):
        path, times = walk((40, 100), (600, 300), 60), np.arange(60) / FPS
        kept = sorted(np.random.default_rng(3).choice(60, 25, replace=False).tolist())
        tracker = Tracker()
        ids = [tracker.update(detect(path[index]), times[index]).ids.tolist() for index in kept]
        assert ids[1:] == [[1]] * 24

    def test_times_that_stand_still_count_as_frames(self):
        tracker = Tracker()
        ids = [tracker.update(detect(point), 0.0).ids.tolist() for point in walk((40, 100), (600, 100), 40)]
        assert ids[-1] == [1]

    @pytest.mark.parametrize("seed", range(8))
    def test_a_crowd_keeps_its_numbers_under_noise_and_misses(self, seed):
        rng = np.random.default_rng(seed)
        lanes = [walk((30, y), (610, y), 50) for y in range(40, 460, 64)]
        tracker, seen = Tracker(), {}
        for index in range(50):
            rows = [lane for lane in range(len(lanes)) if rng.random() > 0.15]
            found = detect(*[np.array(lanes[lane][index]) + rng.normal(0, 1.5, 2) for lane in rows])
            for lane, number in zip(rows, tracker.update(found, index / FPS).ids.tolist(), strict=True):
                seen.setdefault(lane, set()).add(number)
        assert all(len(numbers - {NO_ID}) == 1 for numbers in seen.values())
        assert len(set().union(*seen.values()) - {NO_ID}) == len(lanes)

    def test_an_empty_scene_is_no_problem(self):
        assert track([detect()] * 3) == [[]] * 3

    def test_numbers_reach_the_names_people_know_and_coco(self):
        tracker = Tracker()
        for index in range(2):
            found = tracker.update(detect((100, 100)), index / FPS)
        assert found.boxes.id.tolist() == [1] == found[0].ids.tolist()
        assert json.loads(json.dumps(found.to_coco(5)))[0]["track_id"] == 1
        assert "track_id" not in detect((100, 100)).to_coco(5)[0]

    def test_impossible_scores_are_refused(self):
        with pytest.raises(ValueError, match="low_score 0.9"):
            TrackerConfig(low_score=0.9, high_score=0.5)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (6, 6)])
def test_assignment_is_the_cheapest_of_all(shape):
    rng = np.random.default_rng(7)
    for _ in range(20):
        cost = rng.integers(0, 10, shape) + rng.random(shape)
        pairs = assign(cost)
        small, large = sorted(shape)
        square = cost if shape[0] <= shape[1] else cost.T
        best = min(square[range(small), list(columns)].sum() for columns in itertools.permutations(range(large), small))
        assert len(pairs) == small == len({row for row, _ in pairs}) == len({column for _, column in pairs})
        assert sum(cost[pair] for pair in pairs) == pytest.approx(best)


def test_pairs_have_the_largest_overlap_of_all():
    rng = np.random.default_rng(8)
    for _ in range(100):
        overlap = rng.uniform(0.3, 1, rng.integers(0, 7, 2))
        is_possible = rng.random(overlap.shape) < rng.choice([0.1, 0.4, 0.9])
        pairs = choose_pairs(overlap, is_possible)
        worth = np.where(is_possible, overlap, 0)
        best = sum(worth[pair] for pair in assign(-worth)) if worth.size else 0
        assert all(is_possible[pair] for pair in pairs)
        assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
        assert sum(overlap[pair] for pair in pairs) == pytest.approx(best)


def test_overlap_of_boxes():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [30, 0, 40, 10]], np.float32)
    np.testing.assert_allclose(measure_overlap(boxes[:1], boxes, 0.0), [[1, 1 / 3, 0]])
    assert measure_overlap(boxes[1:2], boxes[2:], 0.0) == 0 < measure_overlap(boxes[1:2], boxes[2:], 1.0)


class TestCounting:
    def count(self, frames, *, lines=(), zones=()):
        """Counts and events after tracking these frames."""
        tracker = Tracker()
        counter = PlaceCounter(
            [parse_line(text, f"line {n}") for n, text in enumerate(lines, 1)],
            [parse_zone(text, f"zone {n}") for n, text in enumerate(zones, 1)],
        )
        events = []
        for index, found in enumerate(frames):
            events += counter.update(tracker.update(found, index / FPS), index / FPS)
        return counter.to_dict(), events

    def test_objects_that_cross_a_line_count_once_in_each_direction(self):
        down, up = walk((200, 30), (200, 400), 40), walk((400, 400), (400, 30), 40)
        frames = [detect(a, b, labels=[0, 1]) for a, b in zip(down, up, strict=True)]
        counts, events = self.count(frames, lines=["0,0.5,1,0.5"])
        assert counts["lines"] == {"line 1": {"in": {"cat": 1}, "out": {"dog": 1}}}
        assert {(e.kind, e.direction, e.label) for e in events} == {("crossed", "in", "cat"), ("crossed", "out", "dog")}

    def test_an_object_hidden_while_it_crosses_counts_once(self):
        path = walk((200, 30), (200, 430), 56)
        frames = [detect() if 18 <= index < 34 else detect(point) for index, point in enumerate(path)]
        assert self.count(frames, lines=["0,0.5,1,0.5"])[0]["lines"]["line 1"] == {"in": {"cat": 1}, "out": {}}

    def test_a_box_that_trembles_on_the_line_counts_once(self):
        rng = np.random.default_rng(0)
        stand = [(200, 210 + float(rng.uniform(-1.5, 1.5))) for _ in range(60)]
        frames = [detect(p) for p in walk((200, 100), (200, 208), 10) + stand + walk((200, 212), (200, 320), 10)]
        assert self.count(frames, lines=["0,0.5,1,0.5"])[0]["lines"]["line 1"] == {"in": {"cat": 1}, "out": {}}

    def test_a_way_past_the_end_of_a_line_does_not_count(self):
        frames = [detect(point) for point in walk((500, 30), (500, 400), 40)]
        assert self.count(frames, lines=["0,0.5,0.5,0.5"])[1] == []

    def test_coming_back_counts_in_the_other_direction(self):
        frames = [detect(p) for p in walk((200, 30), (200, 400), 40) + walk((200, 400), (200, 30), 40)]
        assert self.count(frames, lines=["gate=0,0.5,1,0.5"])[0]["lines"] == {
            "gate": {"in": {"cat": 1}, "out": {"cat": 1}}
        }

    def test_a_row_of_objects_is_counted_exactly(self):
        frames = []
        for index in range(400):
            starts = range(0, 400, 25)
            points = [(60 + 35 * (n % 15), 20 + 12 * (index - s)) for n, s in enumerate(starts) if 0 <= index - s < 34]
            frames.append(detect(*points))
        counts, _ = self.count(frames, lines=["0,0.5,1,0.5"], zones=["0,0.6 1,0.6 1,0.9 0,0.9"])
        crossed = sum(1 for s in range(0, 400, 25) if 20 + 12 * min(399 - s, 33) + 30 > 240 + 3)
        assert counts["lines"]["line 1"] == {"in": {"cat": crossed}, "out": {}}
        assert counts["zones"]["zone 1"]["entered"]["cat"] == crossed

    def test_zone_counts_objects_inside_and_entries(self):
        frames = [detect(a, (320, 240)) for a in walk((40, 240), (320, 240 + 62), 30)]
        counts, events = self.count(frames, zones=["yard=0.4,0.4 0.6,0.4 0.6,0.9 0.4,0.9"])
        assert counts["zones"] == {"yard": {"inside": {"cat": 2}, "entered": {"cat": 2}}}
        assert [e.kind for e in events] == ["entered", "entered"]

    def test_an_object_that_vanishes_leaves_its_zone(self):
        frames = [detect((320, 240))] * 5 + [detect()] * (2 * FPS + 6)
        counts, events = self.count(frames, zones=["0.4,0.4 0.6,0.4 0.6,0.9 0.4,0.9"])
        assert counts["zones"]["zone 1"] == {"inside": {}, "entered": {"cat": 1}}
        assert events == [Event("entered", "zone 1", "in", 1, "cat"), Event("left", "zone 1", "out", 1, "cat")]

    @pytest.mark.parametrize(
        ("parse", "text", "words"),
        [
            (parse_line, "0,0,1", "two different points"),
            (parse_line, "0,0,0,0", "two different points"),
            (parse_line, "0,0,1,x", "expected numbers"),
            (parse_line, "0,0,640,480", "from 0 to 1"),
            (parse_zone, "0,0 1,1", "three or more points"),
        ],
    )
    def test_what_is_no_line_or_zone_is_a_usage_error(self, parse, text, words):
        with pytest.raises(UsageError, match=words):
            parse(text, "name")
