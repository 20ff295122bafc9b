"""The wheel, and a device's installation of each extra: no torch, a small download, a working command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import runtimes
from runtimes import golden

tomllib = pytest.importorskip("tomllib", reason="in Python from 3.11 on")
tags = pytest.importorskip("packaging.tags")
utils = pytest.importorskip("packaging.utils")

ROOT = Path(__file__).parents[1]
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite"}
PACKAGES = ("edge_mrcnn", "quantize", "runtimes")
HOST_ONLY = {"torch", "torchvision", "onnx", "lightning", "timm", "matplotlib", "nncf", "litert-torch"}
LIMIT_MB = 100
"""Download on a Raspberry Pi or a Jetson; on x86_64 OpenCV alone is 61 MB."""


class TestWheel:
    def test_holds_three_packages(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            tops = {name.split("/")[0] for name in archive.namelist()}
        assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)

    def test_holds_every_file_of_them(self, wheel):
        files = {
            path.relative_to(ROOT).as_posix()
            for package in PACKAGES
            for path in (ROOT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        with zipfile.ZipFile(wheel) as archive:
            assert files <= set(archive.namelist())


@pytest.fixture(scope="module", params=list(SUFFIXES))
def extra(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def python(extra: str, uv: str, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with one extra."""
    folder = tmp_path_factory.mktemp(extra)
    found = folder / "bin" / "python"
    call(uv, "venv", "--quiet", "--python", sys.executable, folder)
    install(uv, found, f"{wheel}[{extra}]")
    return found


def install(uv: str, python: Path, requirement: str) -> None:
    """Install into an environment by our pins; skip the test where there is nothing to install from."""
    beside = Path(requirement.partition("[")[0]).parent  # where the wheel of the people model is
    pins = ("-c", ROOT / "requirements.txt", "--find-links", beside)
    try:
        call(uv, "pip", "install", "--quiet", "--python", python, *pins, requirement)
    except subprocess.CalledProcessError as error:
        if "Failed to fetch" in error.stderr or "dns error" in error.stderr:
            pytest.skip("needs a package index")
        raise


@pytest.fixture(scope="module")
def edge_mrcnn(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A function that runs a command in that environment and returns its output."""
    folder = tmp_path_factory.mktemp("elsewhere")
    return lambda *arguments: call(python.parent / "edge-mrcnn", *arguments, cwd=folder)


@pytest.fixture(scope="module")
def model(extra: str, model_files: dict[str, Path]) -> Path:
    """A file of the extra's runtime that finds three objects where the red of a picture is 3; with golden tensors."""
    path = model_files[SUFFIXES[extra]]
    picture = red_picture()[None]
    with runtimes.load(path) as runtime:
        record = golden.make_record(runtime, [("three", picture, runtime.run(picture))])
    golden.attach(path, record)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(2):
        cv2.imwrite(str(folder / f"{index}.png"), red_picture()[..., ::-1])
    return folder


def red_picture() -> np.ndarray:
    """(64, 96, 3) uint8 RGB of a red of 3."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[..., 0] = 3
    return picture


@pytest.mark.network
class TestInstalled:
    def test_no_path_of_the_training_machine_is_included(self, python, uv):
        installed = call(uv, "pip", "list", "--quiet", "--format", "freeze", "--python", python)
        assert not {line.split("==")[0] for line in installed.splitlines()} & HOST_ONLY

    def test_help(self, edge_mrcnn):
        assert "Run a model live" in edge_mrcnn("--help")

    def test_predict_and_run_find_objects(self, edge_mrcnn, model, pictures, tmp_path):
        assert "0.png: 2 cat, 1" in edge_mrcnn("predict", "--model", model, "--source", pictures, "-o", tmp_path)
        assert "2 frames in" in edge_mrcnn("run", "--model", model, "--source", pictures)

    def test_inspect_shows_the_card(self, edge_mrcnn, model):
        assert "toy" in edge_mrcnn("inspect", model)

    def test_verify_passes(self, edge_mrcnn, model):
        assert "computes the same here as on the machine that exported it" in edge_mrcnn("verify", model)

    def test_doctor_knows_the_runtime(self, edge_mrcnn, extra):
        assert {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "litert"}[extra] in edge_mrcnn("doctor")

    def test_benchmark_times_it(self, edge_mrcnn, model):
        options = ("--threads", "1", "--rounds", "2", "--pictures", "2")
        assert model.name in edge_mrcnn("benchmark", "--models", model, *options)

    def test_report_needs_one_extra_more(self, edge_mrcnn, python, uv, wheel, extra, model, pictures, tmp_path):
        write_coco(tmp_path / "two.json", pictures)
        install(uv, python, f"{wheel}[{extra},report]")
        arguments = (
            "--reference",
            model,
            "--models",
            model,
            "--data",
            tmp_path / "two.json",
            "-o",
            tmp_path / "report",
        )
        assert "report.html" in edge_mrcnn("report", *arguments)


def write_coco(path: Path, pictures: Path) -> None:
    """Annotations of one square in each picture, of the toy model's two categories."""
    files = sorted(pictures.glob("*.png"))
    images = [{"id": i, "file_name": str(file), "height": 64, "width": 96} for i, file in enumerate(files)]
    annotations = [
        {
            "id": 1 + i, "image_id": i, "category_id": 17, "iscrowd": 0, "area": 400, "bbox": [4, 2, 20, 20],
            "segmentation": [[4, 2, 24, 2, 24, 22, 4, 22]],
        }
        for i in range(len(files))
    ]  # fmt: skip
    categories = [{"id": 17, "name": "cat"}, {"id": 18, "name": 'a "quoted" <dog> é'}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


@pytest.mark.network
@pytest.mark.parametrize("architecture", ["aarch64", "x86_64"])
def test_download_is_small(extra, architecture, uv, wheel, tmp_path, capsys):
    requirement = f"edge-mrcnn[{extra}] @ {wheel.as_uri()}"
    wheels = resolve(uv, requirement, f"{architecture}-manylinux_2_35", wheel.parent, tmp_path)
    sizes = {url.rsplit("/", 1)[1].split("-")[0]: size_mb(url) for url in wheels}
    people = next(wheel.parent.glob("edge_mrcnn_people-*.whl"))
    total = sum(sizes.values()) + (wheel.stat().st_size + people.stat().st_size) / 1e6
    largest = ", ".join(f"{name} {size:.1f}" for name, size in sorted(sizes.items(), key=lambda i: -i[1])[:3])
    with capsys.disabled():
        print(f"\nedge-mrcnn[{extra}] on {architecture}: {total:.1f} MB to download ({largest})")
    assert total < LIMIT_MB or architecture == "x86_64"


def resolve(uv: str, requirement: str, platform: str, built: Path, folder: Path) -> list[str]:
    """Addresses of the wheels that a requirement installs on a platform, those built here left out."""
    (folder / "wanted.in").write_text(requirement)
    lock = folder / "pylock.toml"
    command = [uv, "pip", "compile", "--quiet", "--format", "pylock.toml", "-c", ROOT / "requirements.txt"]
    command += ["--find-links", built]
    try:
        call(*command, "--python-version", "3.11", "--python-platform", platform, folder / "wanted.in", "-o", lock)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs a package index: {error.stderr.splitlines()[-1]}")
    packages = tomllib.loads(lock.read_text())["packages"]
    rank = wheel_ranks(platform.split("-")[0])
    own = ("edge-mrcnn", "edge-mrcnn-people")
    return [best_wheel(package["wheels"], rank) for package in packages if package["name"] not in own]


def wheel_ranks(architecture: str) -> dict[object, int]:
    """Wheel tag of CPython 3.11 on glibc 2.35 -> place, the best first."""
    platforms = [f"manylinux_2_{minor}_{architecture}" for minor in range(35, 16, -1)]
    platforms += [f"manylinux2014_{architecture}", f"linux_{architecture}"]
    known = [
        *tags.cpython_tags((3, 11), platforms=platforms),
        *tags.compatible_tags((3, 11), platforms=platforms),
    ]
    return {tag: place for place, tag in reversed(list(enumerate(known)))}


def best_wheel(wheels: list[dict[str, str]], rank: dict[object, int]) -> str:
    """The URL of the wheel that an installer takes."""
    places = {}
    for wheel in wheels:
        kinds = utils.parse_wheel_filename(wheel["url"].rsplit("/", 1)[1])[3]
        if found := [rank[kind] for kind in kinds if kind in rank]:
            places[wheel["url"]] = min(found)
    return min(places, key=lambda url: places[url])


def size_mb(url: str) -> float:
    """Size of a file on a server, in MB."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=30) as response:
            return int(response.headers["Content-Length"]) / 1e6
    except urllib.error.URLError as error:
        pytest.skip(f"needs a package index: {error.reason}")


def call(*command: object, cwd: Path | None = None) -> str:
    """The output of a command, without the settings of this checkout."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True, cwd=cwd, env=environment).stdout
