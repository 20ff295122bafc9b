"""`data check` finds each fault and no fault in a valid data set, and exits with the right code."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="pip install 'edge-mrcnn[report]'")

from edge_mrcnn.data.files import make_thumb, read_header  # noqa: E402
from edge_mrcnn.data_check import FAULTS, DataCheck, check_data  # noqa: E402
from edge_mrcnn.data_check.page import to_html  # noqa: E402
from edge_mrcnn.data_check.wording import to_json, to_lines, to_markdown, verdict  # noqa: E402
from runtimes.errors import DataError, MissingFileError, UsageError  # noqa: E402

Record = dict[str, Any]


class Folder:
    """A copy of the toy data that can be broken."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def change(self, split: str, edit: Callable[[Record], Any]) -> None:
        """Edit an annotation file."""
        file = self.path / "annotations" / f"instances_{split}.json"
        record = json.loads(file.read_text())
        edit(record)
        file.write_text(json.dumps(record))

    def image(self, split: str, name: str) -> Path:
        return self.path / "images" / split / name

    def write_jpeg(self, split: str, name: str, orientation: int = 1, size_wh: tuple[int, int] = (128, 96)) -> None:
        """Replace a picture by a JPEG with an EXIF orientation."""
        pixels = np.random.default_rng(0).integers(0, 256, (*size_wh[::-1], 3), dtype=np.uint8)
        data = cv2.imencode(".jpg", pixels)[1].tobytes()
        tiff = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
        exif = b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\x00\x00" + tiff
        self.image(split, name).write_bytes(data[:2] + exif + data[2:])

    def check(self, **options: Any) -> DataCheck:
        return check_data(self.path, **options)


@pytest.fixture
def folder(toy_data: Path, tmp_path: Path) -> Folder:
    shutil.copytree(toy_data, tmp_path / "data")
    return Folder(tmp_path / "data")


def places(check: DataCheck, name: str) -> list[str]:
    return [str(p) for f in check.findings if f.fault.name == name for p in f.places]


def test_sound_data_has_only_notes(folder: Folder) -> None:
    check = folder.check(decode=True)
    assert {f.fault.name for f in check.findings} == {"image-without-objects", "rare-class"}
    train, val = check.summaries
    assert (train.name, train.images, train.objects, train.empty_images) == ("train", 6, 10, 1)
    assert val.classes == {"square": 2, "disc": 2}
    assert train.per_image == {2: 5, 0: 1} and train.sizes == {(128, 96): 6}
    assert verdict(check) == "No fault was found."


def test_sides_are_stated_at_the_input_size(folder: Folder) -> None:
    small, large = (folder.check(image_size_hw=size).summaries[0].sides_px for size in ((64, 64), (128, 128)))
    assert large == pytest.approx([2 * side for side in small])


def first(record: Record) -> Record:
    return record["annotations"][0]


RECORD_FAULTS: dict[str, Callable[[Record], Any]] = {
    "malformed-image": lambda r: r["images"][2].pop("file_name"),
    "no-size": lambda r: r["images"][2].pop("width"),
    "malformed-category": lambda r: r["categories"].append({"id": 99}),
    "malformed-object": lambda r: first(r).update(bbox=[5, 5]),
    "broken-outline": lambda r: first(r).update(segmentation={"size": [96, 128], "counts": [5, 5]}),
    "duplicate-image-id": lambda r: r["images"].append({**r["images"][0], "file_name": "1.png"}),
    "repeated-image": lambda r: r["images"].append(dict(r["images"][0])),
    "duplicate-category-id": lambda r: r["categories"].append({"id": 3, "name": "again"}),
    "duplicate-category-name": lambda r: r["categories"].append({"id": 9, "name": "disc"}),
    "unknown-image": lambda r: first(r).update(image_id=77),
    "unknown-category": lambda r: first(r).update(category_id=77),
    "duplicate-object-id": lambda r: first(r).update(id=r["annotations"][1]["id"]),
    "class-without-objects": lambda r: r["categories"].append({"id": 9, "name": "unicorn"}),
    "categories-differ": lambda r: [r["categories"].append({"id": 9, "name": "x"}), first(r).update(category_id=9)],
    "no-outline": lambda r: first(r).pop("segmentation"),
    "empty-outline": lambda r: first(r).update(segmentation=[[5, 5, 5, 5, 5, 5]]),
    "outline-outside": lambda r: first(r).update(segmentation=[[2, 2, 140, 2, 140, 50, 2, 50]], bbox=[2, 2, 126, 48]),
    "box-outside": lambda r: first(r).update(bbox=[-9, 2, 40, 40]),
    "box-without-area": lambda r: first(r).update(bbox=[9, 2, 0, 40]),
    "box-off-outline": lambda r: first(r).update(bbox=[100, 80, 10, 10]),
    "duplicate-object": lambda r: r["annotations"].append({**first(r), "id": 999}),
    "crowd": lambda r: first(r).update(iscrowd=1),
    "nothing-to-learn": lambda r: r["annotations"].clear(),
}


@pytest.mark.parametrize("name", RECORD_FAULTS)
def test_fault_of_a_record_is_found(folder: Folder, name: str) -> None:
    folder.change("train", RECORD_FAULTS[name])
    found = places(folder.check(), name)
    assert len(found) == 1 and found[0].startswith("train: ")


@pytest.mark.parametrize("raw", ["text", {"image_id": "x"}, {"image_id": 5, "category_id": 3, "bbox": [1, 2]}, None])
def test_record_that_is_no_annotation_is_found(folder: Folder, raw: Any) -> None:
    folder.change("train", lambda r: r["annotations"].append(raw))
    assert len(places(folder.check(), "malformed-object")) == 1


def test_place_names_image_file_and_object(folder: Folder) -> None:
    folder.change("val", lambda r: r["annotations"][3].update(bbox=[-9, 2, 40, 40]))
    assert places(folder.check(), "box-outside") == ["val: image 15, 1.png, object 4, box -9 2 40 40 in 128 x 96"]


def test_class_without_validation_objects_is_a_note(folder: Folder) -> None:
    for split in ("train", "val"):
        folder.change(split, lambda r: r["annotations"].pop(0))
    folder.change("val", lambda r: r["annotations"].__delitem__(slice(0, 3, 2)))
    check = folder.check()
    assert places(check, "class-not-validated") and not check.count("error")


def test_splits_without_a_common_class(folder: Folder) -> None:
    folder.change("val", lambda r: [c.update(name=f"other {c['id']}") for c in r["categories"]])
    assert places(folder.check(), "no-common-class")


class TestFiles:
    def test_missing(self, folder: Folder) -> None:
        folder.image("train", "1.png").unlink()
        assert len(places(folder.check(), "missing-file")) == 1

    @pytest.mark.parametrize("content", [b"", b"no image at all"])
    def test_unreadable(self, folder: Folder, content: bytes) -> None:
        folder.image("val", "1.png").write_bytes(content)
        assert len(places(folder.check(), "unreadable-file")) == 1

    @pytest.mark.parametrize("kind", ["png", "jpg"])
    def test_truncated(self, folder: Folder, kind: str) -> None:
        if kind == "jpg":
            folder.write_jpeg("train", "1.png")
        path = folder.image("train", "1.png")
        path.write_bytes(path.read_bytes()[:-200])
        assert len(places(folder.check(), "truncated-file")) == 1

    def test_data_behind_the_picture_is_no_fault(self, folder: Folder) -> None:
        folder.write_jpeg("train", "1.png")
        path = folder.image("train", "1.png")
        path.write_bytes(path.read_bytes() + b"maker's own data" * 500)
        assert not folder.check().count("error")

    def test_another_size(self, folder: Folder) -> None:
        folder.change("train", lambda r: r["images"][0].update(width=130))
        (place,) = places(folder.check(), "size-mismatch")
        assert place == "train: image 5, 0.png, annotated 130 x 96, file 128 x 96"

    @pytest.mark.parametrize(
        ("orientation", "size_wh", "fault"),
        [
            (1, (128, 96), ""), (3, (128, 96), "exif-unclear"), (6, (128, 96), "exif-mismatch"),
            (8, (96, 128), "exif-turned"), (6, (96, 130), "size-mismatch"),
        ],
    )  # fmt: skip
    def test_orientation(self, folder: Folder, orientation: int, size_wh: tuple[int, int], fault: str) -> None:
        folder.write_jpeg("train", "1.png", orientation, size_wh)
        assert read_header(folder.image("train", "1.png")).orientation == orientation
        found = {f.fault.name for f in folder.check().findings if "exif" in f.fault.name or "size" in f.fault.name}
        assert found == ({fault} if fault else set())

    def test_decoding_finds_what_headers_do_not_show(self, folder: Folder) -> None:
        path = folder.image("train", "1.png")
        data = bytearray(path.read_bytes())
        start = data.find(b"IDAT")
        data[start + 4 : start + 40] = bytes(36)
        path.write_bytes(data)
        assert not folder.check().count("error")
        assert len(places(folder.check(decode=True), "unreadable-file")) == 1


class TestCopies:
    def test_same_file_in_both_splits_is_a_leak(self, folder: Folder) -> None:
        shutil.copy(folder.image("train", "2.png"), folder.image("val", "1.png"))
        assert places(folder.check(), "leaked-picture") == ["val: image 15, 1.png, the same as train: image 25, 2.png"]
        assert not places(folder.check(), "similar-picture")

    def test_same_file_twice_in_a_split(self, folder: Folder) -> None:
        shutil.copy(folder.image("train", "2.png"), folder.image("train", "1.png"))
        check = folder.check()
        assert len(places(check, "duplicate-picture")) == 1 and not check.count("error")

    @pytest.mark.parametrize("asked", [None, False])
    def test_recompressed_picture_is_similar(self, folder: Folder, asked: bool | None) -> None:
        pixels = cv2.imread(str(folder.image("train", "2.png")))
        folder.image("val", "1.png").write_bytes(cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, 60))[1])
        check = folder.check(similar=asked)
        assert len(places(check, "similar-picture")) == (1 if asked is None else 0)
        assert check.compared is (asked is None)

    def test_plain_picture_is_no_near_duplicate(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "flat.png"), np.full((64, 64, 3), 90, np.uint8))
        assert make_thumb(tmp_path / "flat.png", (64, 64)) is None

    @pytest.mark.parametrize("side", [40, 200, 600])
    def test_thumb_hardly_depends_on_the_size(self, tmp_path: Path, side: int) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        thumbs = []
        for length in (side, 64):
            cv2.imwrite(str(tmp_path / "a.jpg"), cv2.resize(noise, (length, length), interpolation=cv2.INTER_CUBIC))
            thumbs.append(make_thumb(tmp_path / "a.jpg", (length, length)))
        assert float(thumbs[0] @ thumbs[1]) > 0.99


class TestSplits:
    def test_one_file_is_one_split(self, folder: Folder) -> None:
        check = check_data(folder.path / "annotations" / "instances_train.json")
        assert [s.name for s in check.summaries] == ["train"] and not check.compared

    def test_file_of_another_place_is_the_validation(self, folder: Folder, toy_data: Path) -> None:
        check = check_data(folder.path, toy_data / "annotations" / "instances_val.json")
        assert check.summaries[1].path.parents[1] == toy_data

    def test_same_file_twice_is_refused(self, folder: Folder) -> None:
        file = folder.path / "annotations" / "instances_train.json"
        with pytest.raises(UsageError, match="same file"):
            check_data(file, file)

    def test_what_is_no_data_set_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError):
            check_data(tmp_path / "none")
        (tmp_path / "a.json").write_text("[]")
        with pytest.raises(DataError):
            check_data(tmp_path / "a.json")


@pytest.fixture
def broken(folder: Folder) -> Folder:
    """Several faults at once, one with characters that HTML must escape."""
    folder.change("train", lambda r: r["categories"][0].update(name="<b>square</b>"))
    folder.change("train", RECORD_FAULTS["box-outside"])
    folder.change("train", lambda r: r["annotations"][2].update(segmentation={"size": [1, 1], "counts": "0"}))
    folder.change("train", lambda r: r["annotations"].append("text"))
    folder.image("train", "3.png").unlink()
    folder.image("val", "0.png").write_bytes(b"")
    return folder


class TestOutput:
    def test_page_shows_findings_pictures_and_charts(self, broken: Folder) -> None:
        page = to_html(broken.check())
        assert "<b>square" not in page and "&lt;b&gt;square" in page
        assert page.count("<svg") == 3 and page.count("data:image/jpeg;base64,") >= 5
        assert "http" not in page.replace("http-equiv", "")
        for word in ("must be fixed", "add the file", "image 35, 3.png", "Images with faults"):
            assert word in page

    def test_lines_name_examples_and_count_the_rest(self, folder: Folder) -> None:
        folder.change("train", lambda r: [a.update(bbox=[-9, 2, 40, 40]) for a in r["annotations"]])
        lines = to_lines(folder.check())
        assert lines[0] == "train: 6 images, 10 objects of 2 classes"
        start = next(i for i, line in enumerate(lines) if "boxes-elsewhere" in line)
        assert lines[start].split()[:2] == ["warning", "10"] and lines[start + 4].split() == ["and", "7", "more"]

    def test_json_has_every_place(self, broken: Folder) -> None:
        check = broken.check()
        record = json.loads(to_json(check))
        assert record["counts"]["error"] == check.count("error") == 4
        missing = next(f for f in record["findings"] if f["name"] == "missing-file")
        assert missing["count"] == 1 and missing["places"][0]["image_id"] == 35

    def test_markdown_lists_what_is_no_note(self, broken: Folder) -> None:
        text = to_markdown(broken.check())
        assert "| error | 1 |" in text and "- train: image 35, 3.png" in text
        assert "image-without-objects" not in text

    def test_every_fault_says_what_to_do(self) -> None:
        assert all(fault.title and fault.advice for fault in FAULTS.values())


class TestCommand:
    def test_sound_data_names_training_next(self, cli: Callable, folder: Folder, tmp_path: Path) -> None:
        outcome = cli("data", "check", folder.path, "-o", tmp_path / "out", "--markdown", "--json")
        assert outcome.code == 0 and outcome.out.splitlines()[-1].startswith("next: edge-mrcnn train --data")
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["data.html", "data.json", "data.md"]

    def test_fault_that_must_be_fixed_is_exit_3(self, cli: Callable, broken: Folder, tmp_path: Path) -> None:
        outcome = cli("data", "check", broken.path, "-o", tmp_path / "out")
        assert outcome.code == 3 and "must be fixed" in outcome.err
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["data.html"]

    def test_missing_data_is_one_line(self, cli: Callable, tmp_path: Path) -> None:
        outcome = cli("data", "check", tmp_path / "none")
        assert outcome.code == 1 and len(outcome.err.splitlines()) == 1
