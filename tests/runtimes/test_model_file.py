"""A model file keeps the user's name for it, also when it is taken out of a bundle or archive."""

from __future__ import annotations

import shutil

import pytest

import runtimes
from runtimes import MissingFileError, ModelFile, ModelFileError, UnknownFormatError, UsageError
from runtimes.bundle import write_bundle


@pytest.fixture
def bundle(model_files, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "hidden"))
    write_bundle(model_files[".xml"], tmp_path / "b.embundle", {})
    return tmp_path / "b.embundle"


def test_knows_format_files_size_and_card(copy_model, scene):
    file = ModelFile(copy_model(".xml"))
    assert (file.format.name, file.name) == ("openvino", "toy.xml")
    assert [path.name for path in file.files] == ["toy.xml", "toy.bin"]
    assert file.size_bytes == sum(path.stat().st_size for path in file.files)
    assert file.card == scene.card.updated(target="openvino")


def test_bundle_goes_by_its_own_name(bundle, scene):
    file = ModelFile(bundle)
    assert (str(file), file.name, file.files) == (str(bundle), "b.embundle", (bundle,))
    assert (file.format.name, file.card.classes) == ("openvino", scene.card.classes)
    assert file.beside("-int8") == bundle.with_name("b-int8.xml")
    assert file.size_bytes == bundle.stat().st_size


def test_error_of_a_bundle_names_the_bundle(bundle):
    with pytest.raises(UsageError, match=r"b\.embundle.*OpenVinoOptions|b\.embundle.*takes") as caught:
        runtimes.load(bundle, spinning=True)
    ModelFile(bundle).path.write_bytes(b"nothing")
    with pytest.raises(ModelFileError) as damaged:
        _ = ModelFile(bundle).card
    assert "hidden" not in f"{caught.value} {damaged.value}"


def test_bundle_is_not_changed(bundle):
    before = bundle.read_bytes()
    for change in (lambda file: file.write_golden(b""), lambda file: file.write_card(file.card)):
        with pytest.raises(UsageError, match="a bundle cannot be changed"):
            change(ModelFile(bundle))
    assert bundle.read_bytes() == before


def test_folder_of_one_model_is_that_model(model_files, tmp_path, copy_model):
    copy_model(".xml")
    assert ModelFile(tmp_path).given == tmp_path / "toy.xml"
    with runtimes.load(tmp_path, threads=1) as model:
        assert model.card.target == "openvino"
    shutil.copy(model_files[".onnx"], tmp_path)
    with pytest.raises(UnknownFormatError, match=r"give one of toy\.onnx, toy\.xml"):
        ModelFile(tmp_path)


def test_all_files_move_together(copy_model, tmp_path):
    file = ModelFile(copy_model(".xml")).rename(tmp_path / "other.xml")
    assert {path.name for path in tmp_path.iterdir()} == {"other.xml", "other.bin"}
    with runtimes.load(file, threads=1) as model:
        assert model.card.name == "toy"
    with pytest.raises(UsageError, match=r"ends in \.xml"):
        file.rename(tmp_path / "other.onnx")


def test_missing_file_and_unknown_name(tmp_path):
    with pytest.raises(MissingFileError, match=r"a\.onnx: no such model file"):
        ModelFile(tmp_path / "a.onnx")
    with pytest.raises(UnknownFormatError, match="or a bundle"):
        ModelFile(tmp_path / "a.pt")
