"""`load` and `data check` use the same rules: both repair the same annotations and reject the same ones."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

coco_mask = pytest.importorskip("pycocotools.mask", reason="pip install 'edge-mrcnn[report]'")

from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.data.coco import CocoData, decode_mask  # noqa: E402
from edge_mrcnn.data.files import read_header  # noqa: E402
from edge_mrcnn.data.names import FileFinder  # noqa: E402
from edge_mrcnn.data_check import check_data  # noqa: E402
from runtimes.errors import DataError  # noqa: E402
from runtimes.preprocess import read_image  # noqa: E402

Record = dict[str, Any]
SIZE_HW = (40, 60)
POLYGON = [20, 10, 50, 10, 50, 30, 20, 30]
POINTS = [[20, 10], [50, 10], [50, 30], [20, 30]]
MASK = np.zeros(SIZE_HW, np.uint8)
MASK[10:30, 20:50] = 1


class Folder:
    """A data set of one file that can be broken: three pictures with an object each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for number in range(3):
            cv2.imwrite(str(path / f"{number}.png"), np.full((*SIZE_HW, 3), 40 * number, np.uint8))

    def write(self, edit: Callable[[Record], Any] = lambda record: None, encoding: str = "utf-8") -> Path:
        record = {
            "images": [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 60} for n in range(3)],
            "categories": [{"id": 1, "name": "cup"}],
            "annotations": [
                {"id": n + 1, "image_id": n, "category_id": 1, "segmentation": [POLYGON], "bbox": [20, 10, 30, 20]}
                for n in range(3)
            ],
        }
        edit(record)
        file = self.path / "data.json"
        file.write_text(json.dumps(record), encoding=encoding)
        return file

    def found(self, edit: Callable[[Record], Any] = lambda record: None) -> set[str]:
        """Names of the faults that the check reports, without those of every data set."""
        names = {finding.fault.name for finding in check_data(self.write(edit)).findings}
        return names - {"rare-class", "duplicate-picture", "image-without-objects"}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def outline(segmentation: Any) -> Callable[[Record], Any]:
    """The same segmentation for all objects, and their boxes left out."""
    return lambda record: [(a.update(segmentation=segmentation), a.pop("bbox")) for a in record["annotations"]]


def masks(data: CocoData) -> list[np.ndarray]:
    return [decode_mask(a) for image in data.images for a in data.annotations(image.id)]


MEANT = {
    "a level too deep": [[POLYGON]],
    "two levels too deep": [[[POLYGON]]],
    "a level too few": POLYGON,
    "a list of points": POINTS,
    "lists of points": [POINTS],
    "contours of OpenCV": [[[point] for point in POINTS]],
    "texts": [[str(value) for value in POLYGON]],
}
NOT_TRUE = {
    "not a number": [[float("nan"), *POLYGON[1:]]],
    "infinite": [[float("inf"), *POLYGON[1:]]],
    "far away": [[1e8, *POLYGON[1:]]],
    "far away on the other side": [[-1e6, *POLYGON[1:]]],
    "an odd count": [POLYGON[1:]],
    "an odd count of few": [POLYGON[:5]],
    "null inside": [[None, *POLYGON[1:]]],
    "words": [["left", *POLYGON[1:]]],
    "a text": "20,10,50,10",
    "a number": 7,
}


class TestOutlines:
    @pytest.mark.parametrize("kind", MEANT)
    def test_unusual_notation_is_read_as_it_is_meant(self, folder: Folder, kind: str, caplog: Any) -> None:
        found = masks(load(folder.write(outline(MEANT[kind]))))
        assert len(found) == 3 and all(np.array_equal(mask, MASK) for mask in found)
        assert "3 x outline that is not a list of lists of numbers: converted" in caplog.text
        assert folder.found(outline(MEANT[kind])) == {"unusual-outline"}

    @pytest.mark.parametrize("kind", NOT_TRUE)
    def test_impossible_annotations_are_reported_by_both(self, folder: Folder, kind: str) -> None:
        with pytest.raises(DataError, match=r"val: image 0, 0\.png, object 1, .* \(and 2 more\)"):
            load(folder.write(outline(NOT_TRUE[kind])))
        assert folder.found(outline(NOT_TRUE[kind])) & {"broken-outline", "malformed-object"}

    def test_normalised_outlines_are_multiplied_by_the_image_size(self, folder: Folder, caplog: Any) -> None:
        shares = [value / SIZE_HW[1 - place % 2] for place, value in enumerate(POLYGON)]
        found = masks(load(folder.write(outline([shares]))))
        assert all(np.array_equal(mask, MASK) for mask in found)
        assert "3 x outline in shares of the image instead of pixels" in caplog.text

    def test_tiny_outline_among_others_is_not_taken_as_normalised(self, folder: Folder) -> None:
        def edit(record: Record) -> None:
            record["annotations"][0]["segmentation"] = [[0, 0, 1, 0, 1, 1, 0, 1]]

        assert "normalised-outline" not in folder.found(edit)

    def test_object_with_a_box_alone_is_kept(self, folder: Folder) -> None:
        data = load(folder.write(lambda r: r["annotations"][1].pop("segmentation")))
        assert data.annotations(1) == []
        (found,) = data.objects(1)
        assert (found["segmentation"], found["bbox"], found["area"]) == (None, [20, 10, 30, 20], 600)


class TestBoxes:
    def test_corners_are_read_as_corners(self, folder: Folder, caplog: Any) -> None:
        def edit(record: Record) -> None:
            for annotation in record["annotations"]:
                annotation["bbox"] = [20, 10, 50, 30]

        (found,) = load(folder.write(edit)).annotations(0)
        assert found["bbox"] == [20, 10, 30, 20]
        assert "3 x box as x0 y0 x1 y1" in caplog.text
        assert folder.found(edit) == {"box-xyxy"}

    @pytest.mark.parametrize("box", [[35, 20, 30, 20], [10, 20, 20, 30], [0.33, 0.25, 0.5, 0.5], [40, 20, 60, 40]])
    def test_boxes_that_are_mostly_elsewhere_are_taken_from_the_outlines(
        self, folder: Folder, caplog: Any, box: list[float]
    ) -> None:
        """A centre instead of a corner, x and y swapped, shares of the picture, another scale."""

        def edit(record: Record) -> None:
            outlines = [[value + shift for value in POLYGON] for shift in range(3)]
            record["annotations"] = [
                {"id": n + 1, "image_id": n % 3, "category_id": 1, "segmentation": [outlines[n // 3]], "bbox": box}
                for n in range(9)
            ]

        data = load(folder.write(edit))
        assert all(abs(a["bbox"][2] - 30) <= 1 and abs(a["bbox"][3] - 20) <= 1 for a in data.annotations(0))
        assert "box that does not fit its outline, as in most objects: taken from the outline" in caplog.text

    def test_one_wrong_box_does_not_turn_the_others(self, folder: Folder) -> None:
        data = load(folder.write(lambda r: r["annotations"][0].update(bbox=[20, 10, 50, 30])))
        assert data.annotations(1)[0]["bbox"] == [20, 10, 30, 20]

    @pytest.mark.parametrize(
        "box", [[], None, [float("nan"), 10, 30, 20], [20, 10, 1e9, 20], [20, 10, 0, 20], [None] * 4]
    )
    def test_unusable_box_is_replaced_by_that_of_the_outline(self, folder: Folder, box: Any) -> None:
        data = load(folder.write(lambda r: r["annotations"][0].update(bbox=box)))
        assert data.annotations(0)[0]["bbox"] == [20, 10, 30, 20]

    @pytest.mark.parametrize(
        ("area", "expected"), [(1.0, 600), (None, 600), (590.5, 590.5), (float("nan"), 600), (9e9, 600), ("big", 600)]
    )
    def test_area_is_that_of_the_outline_unless_it_is_near(self, folder: Folder, area: Any, expected: float) -> None:
        data = load(folder.write(lambda r: r["annotations"][0].update(area=area)))
        assert data.annotations(0)[0]["area"] == expected

    def test_nulls_are_as_if_they_were_absent(self, folder: Folder) -> None:
        edit = {"iscrowd": None, "area": None, "bbox": None}
        assert folder.found(lambda r: [a.update(edit) for a in r["annotations"]]) == set()


class TestPictures:
    def test_size_that_no_picture_has_is_an_error_and_takes_no_memory(self, folder: Folder) -> None:
        found = folder.found(lambda r: r["images"][0].update(width=10_000_000, height=10_000_000))
        assert "size-mismatch" in found

    def test_picture_without_a_name_is_malformed(self, folder: Folder) -> None:
        assert "malformed-image" in folder.found(lambda r: r["images"][0].update(file_name=None))


class TestIds:
    def test_image_listed_twice_is_read_once(self, folder: Folder) -> None:
        data = load(folder.write(lambda r: r["images"].append(dict(r["images"][0]))))
        assert len(data.images) == 3

    @pytest.mark.parametrize(
        ("edit", "fault"),
        [
            (lambda r: r["images"].append({**r["images"][0], "file_name": "1.png"}), "image id used by two images"),
            (lambda r: r["categories"].append({"id": 1, "name": "plate"}), "category id used by two names"),
        ],
    )
    def test_duplicate_id_is_refused_by_both(self, folder: Folder, edit: Any, fault: str) -> None:
        with pytest.raises(DataError, match=fault):
            load(folder.write(edit), "train")
        assert check_data(folder.write(edit)).count("error") == 1

    def test_categories_without_objects_are_left_out_to_train(self, folder: Folder, caplog: Any) -> None:
        extra = [{"id": 0, "name": "things"}, {"id": 5, "name": "unicorn"}]
        file = folder.write(lambda r: r["categories"].extend(extra))
        assert load(file, "train").classes == ("cup",)
        assert load(file, "val").classes == ("cup", "unicorn")
        assert "1 x category without training objects: left out, such as train: unicorn" in caplog.text


class TestCrowds:
    def edit(self, record: Record) -> None:
        for annotation in record["annotations"][:2]:
            annotation["iscrowd"] = 1

    def test_class_with_many_crowds_is_reported(self, folder: Folder) -> None:
        assert "mostly-crowd" in folder.found(self.edit)

    def test_crowds_are_no_objects_without_learn_crowds(self, folder: Folder) -> None:
        file = folder.write(self.edit)
        assert load(file).count_objects() == {1: 1}
        assert load(file, learn_crowds=True).count_objects() == {1: 3}
        assert check_data(file, learn_crowds=True).summaries[0].objects == 3


class TestText:
    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_byte_order_mark_is_no_fault(self, folder: Folder, encoding: str) -> None:
        assert len(load(folder.write(encoding=encoding)).images) == 3

    def test_keys_in_upper_case_are_read(self, folder: Folder) -> None:
        def edit(record: Record) -> None:
            for table in list(record):
                rows = record.pop(table)
                record[table.upper()] = [{key.upper(): value for key, value in row.items()} for row in rows]

        assert len(masks(load(folder.write(edit)))) == 3


class TestNames:
    @pytest.mark.parametrize(
        ("stored", "written"),
        [
            ("a.jpg", "images\\train\\a.jpg"),
            ("a b.jpg", "a%20b.jpg"),
            ("a b.jpg", "https://store.example/bucket/a%20b.jpg?signature=1/2"),
            ("a.jpg", "A.JPG"),
            ("\u0063\u0327a.jpg", "\u00e7a.jpg"),
            ("a.jpg", "train/a.jpg"),
            ("a.jpg", "/data/upload/3/a.jpg"),
            ("sub/a.jpg", "a.jpg"),
            ("a.jpg", "C:\\Users\\me\\set\\images\\train\\a.jpg"),
        ],
    )
    def test_file_is_found(self, tmp_path: Path, stored: str, written: str) -> None:
        own = tmp_path / "images" / "train"
        for folder in (own, tmp_path / "images" / "val"):
            (folder / stored).parent.mkdir(parents=True, exist_ok=True)
            (folder / stored).write_bytes(b"")
        assert FileFinder(own, tmp_path).find(written) == (own / stored, True)

    @pytest.mark.parametrize("written", ["b.jpg", "one/b.jpg"])
    def test_file_of_another_folder_is_not_taken(self, tmp_path: Path, written: str) -> None:
        own = tmp_path / "images" / "train"
        for folder in (own, tmp_path / "images" / "val", own / "two"):
            folder.mkdir(parents=True)
        (tmp_path / "images" / "val" / "b.jpg").write_bytes(b"")
        (own / "two" / "b.jpg").write_bytes(b"")
        found, _ = FileFinder(own, tmp_path).find(written)
        assert found == (own / "two" / "b.jpg" if written == "b.jpg" else own / written)

    def test_other_split_is_found_by_its_folder(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        (tmp_path / "val").mkdir()
        (tmp_path / "val" / "b.jpg").write_bytes(b"")
        assert FileFinder(tmp_path / "train", tmp_path).find("val/b.jpg")[0] == tmp_path / "val" / "b.jpg"


TAGS = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
"""EXIF: turn by a quarter."""


def write_turned(path: Path) -> None:
    """A picture of 60 x 40 pixels that is shown as 40 x 60."""
    pixels = np.zeros((*SIZE_HW, 3), np.uint8)
    data = cv2.imencode(path.suffix, pixels)[1].tobytes()
    if path.suffix == ".jpg":
        segment = b"\xff\xe1" + struct.pack(">H", 8 + len(TAGS)) + b"Exif\x00\x00" + TAGS
        data = data[:2] + segment + data[2:]
    elif path.suffix == ".png":
        end = data.rfind(b"IEND") - 4  # behind the pixels, as some tools have it
        data = data[:end] + struct.pack(">I", len(TAGS)) + b"eXIf" + TAGS + _crc(b"eXIf" + TAGS) + data[end:]
    elif path.suffix == ".webp":
        extended = b"VP8X" + struct.pack("<II", 10, 8) + (59).to_bytes(3, "little") + (39).to_bytes(3, "little")
        body = b"WEBP" + extended + data[12:] + b"EXIF" + struct.pack("<I", len(TAGS)) + TAGS
        data = b"RIFF" + struct.pack("<I", len(body)) + body
    path.write_bytes(data)


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


class TestOrientation:
    @pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
    def test_size_in_the_header_equals_the_decoded_size(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / f"a.{kind}"
        write_turned(path)
        assert read_header(path).shown_hw == read_image(path).shape[:2]

    @pytest.mark.parametrize("compression", [None, "tiff_lzw"])
    def test_size_in_a_tiff_header_equals_the_decoded_size(self, tmp_path: Path, compression: str | None) -> None:
        pillow = pytest.importorskip("PIL.Image", reason="comes with torchvision")
        picture = pillow.fromarray(np.zeros((*SIZE_HW, 3), np.uint8))
        picture.save(tmp_path / "a.tif", tiffinfo={274: 6}, compression=compression)
        assert read_header(tmp_path / "a.tif").shown_hw == read_image(tmp_path / "a.tif").shape[:2]

    @pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
    def test_annotated_as_stored_is_an_error_and_as_shown_is_none(self, folder: Folder, kind: str) -> None:
        write_turned(folder.path / f"0.{kind}")
        if read_image(folder.path / f"0.{kind}").shape[0] != 60:
            pytest.skip("this OpenCV shows it unturned")
        name = {"file_name": f"0.{kind}"}
        assert "exif-mismatch" in folder.found(lambda r: r["images"][0].update(name))
        size = {"width": 40, "height": 60}
        assert "exif-mismatch" not in folder.found(lambda r: r["images"][0].update({**name, **size}))

    def test_outlines_as_shown_swap_the_size_as_stored(self, folder: Folder) -> None:
        write_turned(folder.path / "0.jpg")
        write_turned(folder.path / "1.jpg")
        tall = [5, 42, 20, 42, 20, 58, 5, 58]

        def edit(record: Record) -> None:
            for number in (0, 1):
                record["images"][number].update(file_name=f"{number}.jpg")
                record["annotations"][number].pop("bbox")
            record["annotations"][0].update(segmentation=[tall])
            record["annotations"][1].update(segmentation=[[5, 5, 20, 5, 20, 20, 5, 20]])

        data = load(folder.write(edit))
        assert [(image.width, image.height) for image in data.images] == [(40, 60), (40, 60), (60, 40)]
        assert data.annotations(0)[0]["bbox"] == [5, 42, 15, 16]
        assert folder.found(edit) == {"swapped-size", "exif-turned"}

    def test_boxes_without_outlines_swap_the_size_too(self, folder: Folder) -> None:
        write_turned(folder.path / "0.jpg")

        def edit(record: Record) -> None:
            record["images"][0].update(file_name="0.jpg")
            record["annotations"][0].update(segmentation=[], bbox=[5, 42, 15, 16])

        assert folder.found(edit) == {"swapped-size", "exif-turned", "no-outline"}


class TestSamples:
    def test_float_tiff_is_an_error(self, folder: Folder) -> None:
        cv2.imwrite(str(folder.path / "0.tiff"), np.zeros((*SIZE_HW, 3), np.float32))
        edit = {"file_name": "0.tiff"}
        assert "unreadable-file" in folder.found(lambda r: r["images"][0].update(edit))

    @pytest.mark.parametrize("suffix", ["png", "tiff"])
    def test_16_bit_images_are_reported(self, folder: Folder, suffix: str) -> None:
        cv2.imwrite(str(folder.path / f"0.{suffix}"), np.zeros((*SIZE_HW, 3), np.uint16))
        assert "deep-file" in folder.found(lambda r: r["images"][0].update(file_name=f"0.{suffix}"))


class TestFix:
    def test_file_that_was_fixed_has_no_fault(self, cli: Callable, folder: Folder) -> None:
        def edit(record: Record) -> None:
            record["images"][0]["file_name"] = "images\\0.PNG"
            record["categories"].append({"id": 0, "name": "_background_"})
            first, second, third = record["annotations"]
            first.update(segmentation=[POINTS], area=1)
            second.update(segmentation=[[float("nan"), *POLYGON[1:]]], id=1)
            third.update(bbox=[20, 10, 0, 0])

        fixed = folder.path / "out" / "fixed.json"
        fixed.parent.mkdir()
        outcome = cli("data", "check", folder.write(edit), "--fix", fixed, "-o", folder.path / "page")
        assert outcome.code == 3
        assert f"wrote {fixed} (2 objects; 1 that cannot be used are not in it)" in outcome.out
        data = load(fixed)
        assert all(np.array_equal(mask, MASK) for mask in masks(data))
        assert all(image.path.is_file() for image in data.images) and data.categories == {1: "cup"}
        assert check_data(fixed).count("error") == check_data(fixed).count("warning") == 0

    def test_training_on_the_fixed_file_is_suggested(self, cli: Callable, folder: Folder) -> None:
        fixed = folder.path / "fixed.json"
        outcome = cli("data", "check", folder.write(), "--fix", fixed, "-o", folder.path / "page")
        assert outcome.code == 0 and f"next: edge-mrcnn train --data {fixed}\n" in outcome.out

    def test_existing_file_is_not_overwritten(self, cli: Callable, folder: Folder) -> None:
        file = folder.write()
        before = file.read_bytes()
        assert cli("data", "check", file, "--fix", file, "-o", folder.path / "page").code == 2
        assert file.read_bytes() == before

    def test_duplicate_ids_cannot_be_fixed(self, cli: Callable, folder: Folder) -> None:
        file = folder.write(lambda r: r["images"].append({**r["images"][0], "file_name": "1.png"}))
        outcome = cli("data", "check", file, "--fix", folder.path / "fixed.json", "-o", folder.path / "page")
        assert outcome.code == 1 and "renumber them" in outcome.err
        assert not (folder.path / "fixed.json").exists()
