"""Labels of a teacher: its confident detections in unlabelled pictures, and its masks for given boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("lightning", reason="pip install 'edge-mrcnn[train]'")

from edge_mrcnn.config import PseudoLabelConfig  # noqa: E402
from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.data.coco import CocoData, decode_mask  # noqa: E402
from edge_mrcnn.data.writing import write_data  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint, rename_classes, save_checkpoint  # noqa: E402
from edge_mrcnn.reference import TorchRuntime  # noqa: E402
from edge_mrcnn.train.distillation import class_rows, select_columns, select_logits  # noqa: E402
from edge_mrcnn.train.pseudo_labels import label_frames, outline_boxes  # noqa: E402
from runtimes.errors import UsageError  # noqa: E402
from runtimes.preprocess import read_image  # noqa: E402

EVERYTHING = PseudoLabelConfig(pseudo_score=0.05, pseudo_doubt=0.05, pseudo_masks=True, pseudo_box_iou=0.0)


@pytest.fixture
def teacher(toy_checkpoint: Path) -> TorchRuntime:
    return TorchRuntime(load_checkpoint(toy_checkpoint), device="cpu")


@pytest.fixture
def data(toy_data: Path) -> CocoData:
    return load(toy_data, "train")


@pytest.fixture
def frames(toy_data: Path, tmp_path: Path) -> list[Path]:
    """The pictures of the validation split upside down, in a folder of their own."""
    (tmp_path / "frames").mkdir()
    files = []
    for file in sorted((toy_data / "images" / "val").iterdir()):
        files.append(tmp_path / "frames" / file.name)
        cv2.imwrite(str(files[-1]), cv2.imread(str(file))[::-1])
    return files


class TestFrames:
    def test_confident_detections_of_the_teacher_become_objects(self, teacher, data, frames) -> None:
        found = [teacher.infer(read_image(file)) for file in frames]
        scores = np.sort(np.concatenate([one.scores for one in found]))
        config = replace(EVERYTHING, pseudo_score=float(scores[len(scores) // 2]))
        labelled = label_frames(teacher, data, frames, config)
        new = [image for image in labelled.data.images if image.path in frames]
        assert labelled.data.images[: len(data.images)] == data.images
        assert len(new) == labelled.asked - labelled.left_out > 0
        assert labelled.kept == sum(len(labelled.data.annotations(image.id)) for image in new) > 0
        for image in new:
            detections = found[frames.index(image.path)]
            sure = detections[
                (detections.scores >= config.pseudo_score) & [mask.mask.any() for mask in detections.masks.regions]
            ]
            objects = labelled.data.annotations(image.id)
            assert [one["category_id"] for one in objects] == [sure.category_ids[label] for label in sure.labels]
            for one, mask in zip(objects, sure.masks.data, strict=True):
                assert np.array_equal(decode_mask(one).astype(bool), mask)

    def test_picture_with_nothing_but_doubts_is_left_out(self, teacher, data, frames) -> None:
        unsure = PseudoLabelConfig(pseudo_score=1.0, pseudo_doubt=0.0)
        labelled = label_frames(teacher, data, frames, unsure)
        assert (labelled.kept, labelled.left_out) == (0, len(frames)) and labelled.data.images == data.images

    def test_picture_with_nothing_at_all_shows_background(self, teacher, data, frames) -> None:
        blind = PseudoLabelConfig(pseudo_score=1.0, pseudo_doubt=1.0)
        labelled = label_frames(teacher, data, frames, blind)
        assert labelled.left_out == 0 and len(labelled.data.images) == len(data.images) + len(frames)

    def test_classes_that_the_data_does_not_have_are_no_labels(self, teacher, data, frames) -> None:
        squares = replace(data, categories={3: "Square"}, images=(), by_image={})
        labelled = label_frames(teacher, squares, frames, EVERYTHING)
        found = {one["category_id"] for objects in labelled.data.by_image.values() for one in objects}
        assert found == {3} and labelled.kept < label_frames(teacher, data, frames, EVERYTHING).kept

    def test_picture_that_cannot_be_read_is_left_out(self, teacher, data, tmp_path: Path, caplog) -> None:
        (tmp_path / "broken.jpg").write_bytes(b"no picture")
        labelled = label_frames(teacher, data, [tmp_path / "broken.jpg"], EVERYTHING)
        assert labelled.left_out == 1 and "broken.jpg" in caplog.text


class TestBoxes:
    @pytest.fixture
    def boxes(self, teacher, data) -> CocoData:
        """The teacher's own boxes in the first picture as objects without outlines."""
        found = teacher.infer(read_image(data.images[0].path))
        rows = []
        for number, one in enumerate(found):
            x0, y0, x1, y1 = map(float, one.boxes_xyxy[0])
            box = [x0, y0, x1 - x0, y1 - y0]
            category = found.category_ids[int(one.labels[0])]
            rows.append(
                {"id": number + 1, "image_id": data.images[0].id, "category_id": category, "segmentation": None,
                 "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
        return replace(data, images=data.images[:1], by_image={data.images[0].id: rows})

    def test_mask_of_a_box_is_that_of_a_detection_there(self, teacher, boxes) -> None:
        image = boxes.images[0]
        expected = teacher.infer(read_image(image.path)).masks.data
        labelled = outline_boxes(teacher, boxes, replace(EVERYTHING, pseudo_score=1.0, pseudo_doubt=0.0))
        objects = labelled.data.objects(image.id)
        assert labelled.kept == sum(mask.any() for mask in expected) > 1
        for one, mask in zip(objects, expected, strict=True):
            if mask.any():
                # The masks of random weights lie near the threshold, where rounding of the box moves some pixels.
                assert (decode_mask(one).astype(bool) != mask).mean() < 0.01

    @pytest.mark.parametrize(
        "config", [replace(EVERYTHING, pseudo_box_iou=1.0), PseudoLabelConfig(pseudo_score=1.0, pseudo_doubt=1.0)]
    )
    def test_box_that_the_teacher_disagrees_with_stays_a_box(self, teacher, boxes, config) -> None:
        labelled = outline_boxes(teacher, boxes, config)
        assert labelled.kept < labelled.asked == labelled.kept + labelled.left_out
        assert labelled.data.count_boxes() == labelled.left_out

    def test_outlines_that_are_there_are_kept(self, teacher, data) -> None:
        labelled = outline_boxes(teacher, data, EVERYTHING)
        assert labelled.asked == 0 and labelled.data.by_image == data.by_image


def test_data_set_that_is_written_is_the_same_when_read(teacher, data, frames, tmp_path: Path) -> None:
    labelled = label_frames(teacher, data, frames, EVERYTHING).data
    write_data(labelled, tmp_path / "deep" / "set.json")
    again = load(tmp_path / "deep" / "set.json", "train")
    assert again.categories == labelled.categories
    assert [(i.id, i.path.resolve(), i.width, i.height) for i in again.images] == [
        (i.id, i.path.resolve(), i.width, i.height) for i in labelled.images
    ]
    for image in labelled.images:
        for one, other in zip(labelled.objects(image.id), again.objects(image.id), strict=True):
            assert np.array_equal(decode_mask(one), decode_mask(other)) and one["bbox"] == other["bbox"]


class TestTeacherOfMoreClasses:
    KNOWN = ("cat", "dog", "cow")

    def test_probability_of_other_classes_goes_to_the_background(self) -> None:
        logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
        rows = class_rows(self.KNOWN, ("Cow", "cat"))
        chance, selected = logits.softmax(1), select_logits(logits, rows).softmax(1)
        assert rows == [0, 3, 1]
        assert torch.allclose(selected[:, 1:], chance[:, [3, 1]], atol=1e-6)
        assert torch.allclose(selected[:, 0], chance[:, 0] + chance[:, 2], atol=1e-6)

    def test_same_classes_are_left_as_they_are(self) -> None:
        logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(select_logits(logits, class_rows(self.KNOWN, self.KNOWN)), logits)

    def test_columns_of_a_class_stay_together(self) -> None:
        deltas = torch.arange(16)[None]
        assert select_columns(deltas, [0, 3], width=4).tolist() == [[0, 1, 2, 3, 12, 13, 14, 15]]


class TestShrink:
    SMALL = (
        "--imgsz=64x128", "--backbone=repvgg_lite", "--fpn-channels=16", "--box-hidden=32", "--mask-hidden=16",
        "--epochs=1", "--batch=2", "--workers=0", "--device=cpu", "--rois=16", "--precision=32", "--pseudo-doubt=0.05",
    )  # fmt: skip

    def test_student_learns_from_labels_and_frames_and_is_compared(
        self, cli: Callable, toy_data: Path, toy_checkpoint: Path, frames: list[Path], tmp_path: Path
    ) -> None:
        words = ["--teacher", toy_checkpoint, "--data", toy_data, "--unlabelled", frames[0].parent]
        outcome = cli("shrink", *words, *self.SMALL, "--pseudo-score", 0.06, "-o", tmp_path / "out")
        assert outcome.code == 0, outcome.err
        assert "toy labelled" in outcome.err and "validation" in outcome.err
        record = json.loads((tmp_path / "out" / "training_set.json").read_text())
        assert len(record["images"]) == 9 and any("score" in one for one in record["annotations"])
        student = load_checkpoint(tmp_path / "out" / "best.pt")
        assert student.training["teacher"] == "toy" and student.training["images"] == 9
        report = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
        assert [row["name"] for row in report["rows"]] == ["toy.pt", "best.pt"]
        assert "toy.pt" in outcome.out and "next: edge-mrcnn export" in outcome.out
        again = cli("shrink", "--config", tmp_path / "out" / "config.toml", "--resume", "-o", tmp_path / "out")
        assert again.code == 2 and "has 1 epochs" in again.err and "labelled" not in again.err

    def test_teacher_alone_labels_where_there_are_no_labels(
        self, cli: Callable, toy_data: Path, toy_checkpoint: Path, tmp_path: Path
    ) -> None:
        words = ["--teacher", toy_checkpoint, "--unlabelled", toy_data / "images", *self.SMALL, "--pseudo-score", 0.06]
        outcome = cli("shrink", *words, "-o", tmp_path / "out")
        assert outcome.code == 0, outcome.err
        sets = [json.loads((tmp_path / "out" / f"{name}_set.json").read_text()) for name in ("training", "validation")]
        assert [len(one["images"]) for one in sets] == [8, 1]
        assert set(load_checkpoint(tmp_path / "out" / "best.pt").classes) <= {"square", "disc"}

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--data", "x"], "expected --teacher"),
            (["--teacher", "{teacher}"], "--unlabelled"),
            (["--teacher", "{teacher}", "--data", "{data}", "--imgsz", "96"], "--teacher-imgsz"),
            (["--teacher", "{teacher}", "--unlabelled", "x", "--pseudo-score", "0.2"], "pseudo_doubt 0.3"),
        ],
    )  # fmt: skip
    def test_wrong_use_is_reported(
        self, cli: Callable, toy_data: Path, toy_checkpoint: Path, tmp_path: Path, words: list[str], said: str
    ) -> None:
        words = [word.format(teacher=toy_checkpoint, data=toy_data) for word in words]
        outcome = cli("shrink", *words, "-o", tmp_path / "out")
        assert outcome.code == 2 and said in outcome.err

    @pytest.mark.parametrize("flag", [["--unlabelled", "x"], ["--pseudo-masks"], ["--teacher-imgsz", "64"]])
    def test_what_needs_a_teacher_says_so(self, cli: Callable, toy_data: Path, tmp_path: Path, flag: list[str]) -> None:
        outcome = cli("train", "--data", toy_data, *flag, "-o", tmp_path / "out")
        assert outcome.code == 2 and f"{flag[0]} needs --teacher" in outcome.err

    def test_teacher_of_other_classes_is_refused_before_it_labels(
        self, cli: Callable, toy_data: Path, toy_checkpoint: Path, tmp_path: Path
    ) -> None:
        other: Checkpoint = rename_classes(load_checkpoint(toy_checkpoint), ("square", "cow"))
        save_checkpoint(tmp_path / "other.pt", other)
        words = ["--teacher", tmp_path / "other.pt", "--data", toy_data, "--unlabelled", toy_data]
        outcome = cli("shrink", *words, *self.SMALL, "-o", tmp_path / "out")
        assert outcome.code == UsageError.exit_code and "disc" in outcome.err
