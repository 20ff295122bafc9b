"""benchmarks/gpu.sh on the CPU with tiny settings, so that faults are found before it runs on a GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

from edge_mrcnn.model.backbones import build_backbone  # noqa: E402

ROOT = Path(__file__).parents[1]


def run_script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEVICE": "cpu", "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """The output of pack.py for a set with absolute names, moved to another folder; the set itself is deleted."""
    folder = tmp_path_factory.mktemp("people")
    data = folder / "prepared"
    write_people(data)
    packed = CliRunner().invoke(load_pack().main, ["--data", str(data), "-o", str(folder / "pack")])
    assert packed.exit_code == 0, packed.output
    shutil.rmtree(data)
    return (folder / "pack").rename(folder / "elsewhere")


def load_pack() -> ModuleType:
    """benchmarks/people/pack.py, which is a script."""
    spec = importlib.util.spec_from_file_location("pack", ROOT / "benchmarks/people/pack.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def write_people(folder: Path) -> None:
    """The output of prepare.py: annotations with absolute names, and a backbone."""
    (folder / "annotations").mkdir(parents=True)
    for split, count in (("train", 4), ("val", 2)):
        images, people = [], []
        for number in range(1, count + 1):
            file = folder / f"{split}-{number}.jpg"
            picture = np.full((96, 128, 3), 40 * number, np.uint8)
            picture[20:80, 30:70] = (40, 90, 200)
            cv2.imwrite(str(file), picture)
            images.append({"id": number, "file_name": str(file), "width": 128, "height": 96})
            outline = [30, 20, 70, 20, 70, 80, 30, 80]
            place = {"bbox": [30, 20, 40, 60], "area": 2400, "segmentation": [outline], "iscrowd": 0}
            people.append({"id": number, "image_id": number, "category_id": 1, **place})
        record = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(record))
    torch.save(build_backbone("shufflenet_v2_x1_0_leaky").net.state_dict(), folder / "backbone.pth")


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("gpu")
    ran = run_script("speed", folder)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return (folder / "SPEED.md").read_text()


def test_both_loops_are_timed(record) -> None:
    assert re.search(r"^\| torchvision \| [\d.]+ \|", record, re.MULTILINE)
    assert re.search(r"^\| edge-mrcnn \| [\d.]+ \|", record, re.MULTILINE)


def test_resumed_training_has_the_losses_of_a_whole_one(record) -> None:
    (line,) = [line for line in record.splitlines() if line.startswith("resumed: ")]
    broken, whole = re.findall(r"[\d.]+, [\d.]+", line)
    assert broken == whole


def test_people_model_is_trained_from_a_pack_of_another_machine(pack, tmp_path) -> None:
    ran = run_script("people", tmp_path, pack)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert (tmp_path / "imitate/backbone.pth").is_file()
    assert (tmp_path / "people/best.pt").is_file()
    assert "on 4 images with 4 objects of 1 classes; 2 for validation" in ran.stderr


def test_unknown_part_is_named(tmp_path) -> None:
    ran = run_script("sped", tmp_path)
    assert ran.returncode == 2
    assert "sped: expected speed or people" in ran.stderr
