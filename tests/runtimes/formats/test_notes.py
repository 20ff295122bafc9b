"""Cards and golden tensors are read and written without an SDK, and the SDKs still understand the files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtimes import FORMATS, ModelFile, ModelFileError
from runtimes.formats import suffixes
from runtimes.formats.protobuf import read_varint, scan_fields, write_bytes

ROOT = Path(__file__).parents[3]
SDKS = "['onnx', 'onnxruntime', 'openvino', 'ai_edge_litert', 'tflite_runtime', 'torch', 'flatbuffers']"


@pytest.mark.parametrize("suffix", suffixes())
def test_notes_are_read_and_written_without_an_sdk(suffix, copy_model):
    path = copy_model(suffix)
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({SDKS}))\n"
        f"from runtimes import ModelFile; file = ModelFile({str(path)!r})\n"
        "file.write_golden(b'gold'); file.write_golden(b'gold' * 1000); assert file.golden == b'gold' * 1000\n"
        "card = file.card; file.write_card(card.updated(name='other')); assert file.golden is None\n"
        "print(ModelFile(file).card.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "other\n", done.stderr


@pytest.mark.parametrize("suffix", suffixes())
def test_bytes_are_the_same_whoever_reads_and_writes_again(suffix, copy_model):
    file = ModelFile(copy_model(suffix))
    file.write_golden(b"gold")
    once = file.path.read_bytes()
    file.write_golden(b"gold")
    assert file.path.read_bytes() == once


def test_onnx_reads_what_we_wrote_and_keeps_what_others_wrote(copy_model):
    onnx = pytest.importorskip("onnx", reason="needs edge-mrcnn[export]")
    path = copy_model(".onnx")
    model = onnx.load(path)
    model.metadata_props.add(key="of others", value="ä" * 300)
    onnx.save(model, path)
    file = ModelFile(path)
    file.seal()
    file.write_golden(bytes(range(256)))
    after = onnx.load(path)
    onnx.checker.check_model(after)
    properties = {entry.key: entry.value for entry in after.metadata_props}
    assert set(properties) == {"of others", "edge_mrcnn", "edge_mrcnn_golden", "edge_mrcnn_sha256"}
    assert properties["of others"] == "ä" * 300 and after.graph == model.graph
    assert file.golden == bytes(range(256))


def test_openvino_reads_what_we_wrote_and_keeps_what_others_wrote(copy_model):
    openvino = pytest.importorskip("openvino", reason="needs edge-mrcnn[openvino]")
    path = copy_model(".xml")
    model = openvino.Core().read_model(path)
    model.set_rt_info("MaskRCNN", ["model_info", "model_type"])
    model.set_rt_info("old", ["edge_mrcnn", "card"])
    openvino.save_model(model, path.with_name("made.xml"))
    card = ModelFile(path).card.updated(name='a "quoted" <name> é')
    file = ModelFile(path.with_name("made.xml"))
    file.write_card(card)
    file.write_golden(b"gold")
    after = openvino.Core().read_model(file.path)
    assert after.get_rt_info(["model_info", "model_type"]).astype(str) == "MaskRCNN"
    assert after.get_rt_info(["edge_mrcnn", "card"]).astype(str) == card.to_json()
    assert file.card == card and file.golden == b"gold"


@pytest.mark.parametrize("text", [b"<net></net>", b'<net><layers><rt_info><x value="1"/></rt_info></layers></net>'])
def test_openvino_file_without_information_of_the_model_gets_some(text):
    format_ = FORMATS["openvino"]
    assert format_.read_notes(text).card is None
    written = format_.write_notes(text, format_.read_notes(text)._replace(card="{}", golden=b"1"))
    assert format_.read_notes(written) == ("{}", b"1")
    assert written.startswith(text[: -len(b"</net>")])


@pytest.mark.parametrize("suffix", suffixes())
@pytest.mark.parametrize("content", [b"", b"text", b"\x72\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"])
def test_what_is_no_model_is_refused_in_one_line(suffix, content, tmp_path):
    path = tmp_path / f"odd{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="edge-mrcnn export") as caught:
        _ = ModelFile(path).card
    assert "\n" not in str(caught.value)


def test_fields_of_a_message_are_found_at_any_length():
    message = b"".join(
        write_bytes(number, bytes(length)) for number, length in ((1, 0), (14, 127), (2000, 128), (7, 99999))
    )
    message += b"\x08\x96\x01" + b"\x0d" + bytes(4) + b"\x11" + bytes(8)  # a number, and both fixed sizes
    fields = list(scan_fields(message))
    assert [field.number for field in fields] == [1, 14, 2000, 7, 1, 1, 2]
    assert [field.end - field.value for field in fields] == [0, 127, 128, 99999, 2, 4, 8]
    assert fields[-1].end == len(message)


@pytest.mark.parametrize("message", [b"\x0a\x05abc", b"\x0b", b"\x80" * 11, b"\x0d\x00"])
def test_cut_or_odd_message_is_an_error(message):
    with pytest.raises(ValueError, match="byte|kind"):
        list(scan_fields(message))


def test_numbers_are_read_seven_bits_at_a_time():
    assert read_varint(b"\x00\x96\x01", 1) == (150, 3)
