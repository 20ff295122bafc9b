"""A bundle is one file that opens like the model in it; changed bundles and paths out of it are rejected."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import runtimes
from runtimes import MissingFileError, ModelFileError
from runtimes.bundle import MANIFEST, Manifest, model_file, read_entry, read_manifest, write_bundle
from runtimes.formats import suffixes
from runtimes.formats.base import ZIP_SEAL
from runtimes.seal import write_seal

EXTRAS = {"card.json": b"{}", "report/report.html": b"<p>hello</p>"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(model_files, tmp_path) -> Path:
    path = tmp_path / "toy.embundle"
    write_bundle(model_files[".onnx"], path, EXTRAS)
    return path


@pytest.mark.parametrize("suffix", suffixes())
def test_opens_as_the_model_in_it(model_files, tmp_path, suffix):
    path = tmp_path / "toy.embundle"
    write_bundle(model_files[suffix], path, EXTRAS)
    with runtimes.load(path, threads=1) as model:
        assert len(model.infer(np.full((64, 96, 3), 3, np.uint8))) == 3
        assert runtimes.read_card(path) == model.card


def test_holds_what_belongs_to_the_model(bundle, model_files):
    manifest = read_manifest(bundle)
    assert manifest.model == "model/toy.onnx"
    assert [entry.name for entry in manifest.files] == ["model/toy.onnx", *EXTRAS]
    assert read_entry(bundle, "report/report.html") == b"<p>hello</p>"
    assert read_entry(bundle, "model/toy.onnx") == model_files[".onnx"].read_bytes()
    with pytest.raises(ModelFileError, match=r"contains no other\.txt"):
        read_entry(bundle, "other.txt")


def test_same_contents_make_the_same_file(bundle, model_files, tmp_path):
    write_bundle(model_files[".onnx"], tmp_path / "again.embundle", EXTRAS)
    assert (tmp_path / "again.embundle").read_bytes() == bundle.read_bytes()


def test_is_unpacked_once(bundle, cache):
    first = model_file(bundle)
    assert first.is_relative_to(cache)
    written = first.stat().st_mtime_ns
    bundle.touch()
    assert model_file(bundle) == first
    assert first.stat().st_mtime_ns == written


def test_damaged_unpacked_files_are_restored(bundle):
    path = model_file(bundle)
    path.write_bytes(path.read_bytes()[:-1])
    bundle.touch()
    with runtimes.load(bundle) as model:
        assert model.card.name == "toy"


@pytest.mark.parametrize("place", [0.001, 0.3, 0.6, 0.9, 0.999])
def test_one_changed_bit_is_refused(bundle, place):
    data = bytearray(bundle.read_bytes())
    data[int(place * len(data))] ^= 4
    bundle.write_bytes(data)
    with pytest.raises(ModelFileError):
        read_manifest(bundle)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_cut_file_is_refused(bundle, share):
    data = bundle.read_bytes()
    bundle.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelFileError):
        runtimes.load(bundle)


def test_missing_bundle():
    with pytest.raises(MissingFileError, match=r"nowhere\.embundle: no such bundle"):
        runtimes.load("nowhere.embundle")


def test_model_without_a_seal_is_not_bundled(model_files, tmp_path):
    (tmp_path / "odd.onnx").write_bytes(model_files[".onnx"].read_bytes()[:-1])
    with pytest.raises(ModelFileError):
        write_bundle(tmp_path / "odd.onnx", tmp_path / "odd.embundle", {})


@pytest.mark.parametrize(
    "name", ["../up", "model/../../up", "/etc/passwd", "C:\\x", "a//b", "model/.", "", "a\0b", "a\nb", "\\\\host\\x"]
)
def test_name_that_leads_elsewhere_is_refused(model_files, tmp_path, name):
    with pytest.raises(ModelFileError, match="cannot be named"):
        write_bundle(model_files[".onnx"], tmp_path / "x.embundle", {name: b""})
    manifest = {"model": "model/a.onnx", "files": [entry("model/a.onnx", b""), entry(name, b"")], "format_version": 1}
    forge(tmp_path / "x.embundle", manifest, {"model/a.onnx": b""})
    with pytest.raises(ModelFileError, match="cannot be named"):
        model_file(tmp_path / "x.embundle")


def test_file_beside_the_manifest_is_refused(tmp_path):
    forge(tmp_path / "x.embundle", listing("model/a.onnx"), {"model/a.onnx": b"", "model/b.onnx": b""})
    with pytest.raises(ModelFileError, match="differ from those that its manifest lists"):
        read_manifest(tmp_path / "x.embundle")


def test_content_of_another_hash_is_refused(tmp_path):
    forge(tmp_path / "x.embundle", listing("model/a.onnx", b"one"), {"model/a.onnx": b"two"})
    with pytest.raises(ModelFileError, match="hash differs from the manifest"):
        model_file(tmp_path / "x.embundle")


def test_bomb_is_refused(tmp_path):
    zeros = bytes(10_000_000)
    forge(tmp_path / "x.embundle", listing("model/a.onnx", zeros), {"model/a.onnx": zeros}, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "x.embundle").stat().st_size < 100_000
    with pytest.raises(ModelFileError, match="compressed"):
        model_file(tmp_path / "x.embundle")


def test_newer_bundle_asks_for_an_update(tmp_path):
    record = {**listing("model/a.onnx"), "format_version": Manifest.format_version + 1}
    forge(tmp_path / "x.embundle", record, {"model/a.onnx": b""})
    with pytest.raises(ModelFileError, match="update"):
        read_manifest(tmp_path / "x.embundle")


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"format_version": 1, "files": 3}', b"\xff"])
def test_odd_manifest_is_refused(tmp_path, text):
    forge(tmp_path / "x.embundle", text, {})
    with pytest.raises(ModelFileError):
        read_manifest(tmp_path / "x.embundle")


def entry(name: str, content: bytes) -> dict[str, object]:
    import hashlib

    return {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def listing(name: str, content: bytes = b"") -> dict[str, object]:
    """A manifest of one file."""
    return {"model": name, "files": [entry(name, content)], "format_version": 1}


def forge(path: Path, manifest: object, files: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> None:
    """Write and seal a bundle that `write_bundle` would not."""
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr(MANIFEST, manifest if isinstance(manifest, bytes) else json.dumps(manifest))
        for name, content in files.items():
            archive.writestr(name, content)
        archive.comment = ZIP_SEAL.blank
    write_seal(path, ZIP_SEAL)
