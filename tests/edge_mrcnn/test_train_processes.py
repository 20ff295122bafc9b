"""Two processes on one machine, and two machines by torchrun, train as one process does on the same images."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("lightning", reason="pip install 'edge-mrcnn[train]'")

from edge_mrcnn.cli.train import command  # noqa: E402

ROOT = Path(__file__).parents[2]
SETTINGS = "--epochs 2 --workers 0 --device cpu --precision 32 --freeze-norm --warmup-steps 0 --lr 0.01"
ONE_VIEW = "--imgsz 96x128 --flip 0 --scale-jitter 1,1 --color-jitter 0"
# Every anchor and every proposal counts, and the objects alone are positives. So nothing is drawn at random, and each
# image has as many terms in each loss as the others: the mean over processes is the mean over all images.
ALL_REGIONS = (
    "--rpn-batch 100000 --rpn-positive-fraction 1 --rpn-object-iou 0.5 --rpn-background-iou 0.5 "
    "--rois 10000 --roi-positive-fraction 1 --roi-object-iou 0.95 --roi-background-iou 0.95 --train-proposals 8"
)


@pytest.fixture(scope="module")
def four_images(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture of two objects, four times with other classes: BatchNorm sees the same in any part of the batch."""
    record = json.loads((toy_data / "annotations" / "instances_train.json").read_text())
    image = record["images"][0]
    outlined = [annotation for annotation in record["annotations"] if annotation["image_id"] == image["id"]]
    images, objects = [], []
    for number, classes in enumerate(((3, 7), (7, 3), (3, 3), (7, 7)), start=1):
        images.append({**image, "id": number, "file_name": f"{number}.png"})
        for annotation, category in zip(outlined, classes, strict=True):
            own = {"id": len(objects) + 1, "image_id": number, "category_id": category}
            objects.append({**annotation, **own})
    folder = tmp_path_factory.mktemp("four images")
    (folder / "images").mkdir()
    for copy in images:
        shutil.copy(toy_data / "images" / "train" / image["file_name"], folder / "images" / copy["file_name"])
    path = folder / "annotations.json"
    path.write_text(json.dumps({**record, "images": images, "annotations": objects}))
    return path


@pytest.fixture(scope="module")
def arguments(four_images: Path, toy_checkpoint: Path) -> list[str]:
    data = ["--data", str(four_images), "--weights", str(toy_checkpoint)]
    return [*data, *SETTINGS.split(), *ONE_VIEW.split(), *ALL_REGIONS.split()]


@pytest.fixture(scope="module")
def losses_of_one(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    folder = tmp_path_factory.mktemp("one process")
    command.main([*arguments, "--batch", "4", "-o", str(folder)], standalone_mode=False)
    return read_losses(folder)


def read_losses(folder: Path) -> list[dict[str, float]]:
    """The losses of each epoch by name."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(value) for name, value in row.items() if name.startswith("loss/")} for row in rows]


def expect_same(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(found) == len(expected) == 2
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    assert expected[1]["loss/total"] < expected[0]["loss/total"]  # the second epoch shows what the first step did


def run(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, *map(str, words)]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    assert "Warning" not in ran.stderr
    return ran


def test_two_devices(arguments, losses_of_one, tmp_path) -> None:
    ran = run("-m", "edge_mrcnn", "train", *arguments, "--batch", 2, "--devices", 2, "-o", tmp_path / "two")
    assert ran.stdout.count("wrote ") == 1
    expect_same(read_losses(tmp_path / "two"), losses_of_one)


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and the loopback device is called lo")
def test_two_machines(arguments, losses_of_one, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = ROOT / "tests" / "helpers" / "two_machines.py"
    ran = run(script, port, tmp_path, *arguments, "--batch", 2, "--nodes", 2)
    assert ran.stdout.count("wrote ") == 1
    expect_same(read_losses(tmp_path / "0"), losses_of_one)
