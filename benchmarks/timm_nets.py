"""Which timm nets work as a backbone through train, prune, export and INT8 on three runtimes, and how fast they are.

    python -m benchmarks.timm_nets -o runs/timm
    python -m benchmarks.timm_nets resnet18 lcnet_050 --size 128 -o runs/timm

Each step is an edge-mrcnn command in a process of its own, so a failure stops only that net. The processes are forks of
one that has already imported torch. Results are kept in one JSON file per net: the same command resumes an interrupted
run and repeats failed steps. The initial weights are random and the training is short and the same for all: AP on the
generated scenes shows how quickly a net learns, not how good it becomes.
Times are milliseconds of the network in INT8 on one thread, the shortest of several runs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

NETS = (
    "repvgg_a0",
    "mobileone_s0",
    "resnet10t",
    "resnet18",
    "tf_efficientnet_lite0",
    "mobilenetv4_conv_small",
    "lcnet_050",
    "hardcorenas_a",
    "regnetx_002",
    "ghostnetv2_100",
    "fastvit_t8",
    "edgenext_xx_small",
    "convnext_atto",
)
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite"}
SHARE = 0.7
"""Share of the multiply-accumulates that pruning leaves."""
RUNS = 20
"""Timed runs of a file."""
LIMIT_S = 3600
"""Time limit of a step in seconds."""

HEADER = """\
| timm net | box / mask AP | GMAC | pruned to | ONNX ms / MB | OpenVINO ms / MB | TFLite ms / MB | what failed |
|---|---:|---:|---:|---:|---:|---:|---|"""

FORKS = multiprocessing.get_context("forkserver")
SLOW_IMPORTS = ("torch", "torchvision", "timm", "lightning", "onnxruntime", "openvino", "nncf")

Record = dict[str, Any]


class StepError(Exception):
    """A step ended with an error; the message is its last line."""


@dataclass(frozen=True)
class Job:
    """One net and where its files go."""

    net: str
    folder: Path
    data: Path
    size: str
    epochs: int

    @property
    def trained(self) -> Path:
        """The checkpoint of `train`."""
        return self.folder / "train" / "best.pt"

    @property
    def pruned(self) -> Path:
        """The checkpoint of `prune`."""
        return self.folder / "prune" / "best.pt"

    def train(self) -> Record:
        """Train from random weights."""
        call(
            "train", "--data", self.data, "--model", "nano", "--backbone", f"timm:{self.net}", "--imgsz", self.size,
            "--epochs", self.epochs, "--eval-every", self.epochs, "--optimizer", "adamw", "--lr", 1e-3,
            "--workers", 0, "--device", "cpu", "-o", self.trained.parent,
        )  # fmt: skip
        training = self._read(self.trained)
        return {"box": training["box_ap"], "mask": training["mask_ap"]}

    def prune(self) -> Record:
        """Prune and fine-tune, and return the result's figures."""
        call(
            "prune", "--weights", self.trained, "--data", self.data, "--macs", SHARE, "--epochs", 1, "--workers", 0,
            "--ranking-images", 32, "--device", "cpu", "-o", self.pruned.parent,
        )  # fmt: skip
        before, after = self._read(self.pruned)["pruned"]["macs"]
        return {"macs": before, "left": after}

    @staticmethod
    def _read(file: Path) -> Record:
        """What a checkpoint records of its training."""
        from edge_mrcnn.model.checkpoint import load_checkpoint

        return load_checkpoint(file).training

    def export_together(self) -> Record:
        """Export for all targets at once, which shares most of the work; where that fails, each is tried alone."""
        try:
            self._export(",".join(SUFFIXES), self.folder / "together")
        except StepError:
            return {"tried": "alone"}
        return {}

    def measure(self, target: str) -> Record:
        """Time and size of the INT8 file of one target."""
        name = f"best-int8{SUFFIXES[target]}"
        file = self.folder / "together" / name
        if not file.is_file():
            self._export(target, self.folder / target)
            file = self.folder / target / name
        return {"ms": shortest_run_ms(file), "mb": size_of(file)}

    def _export(self, targets: str, folder: Path) -> None:
        """Export in FP32 and INT8."""
        call(
            "export", "--weights", self.trained, "--target", targets, "--int8", "--calib", self.data,
            "--calib-images", 32, "--overwrite", "-o", folder,
        )  # fmt: skip

    def export_pruned(self) -> Record:
        """Export the pruned model, which compares the file's outputs with the checkpoint's."""
        call("export", "--weights", self.pruned, "--target", "onnx", "-o", self.folder / "pruned")
        return {}

    def steps(self) -> dict[str, Callable[[], Record]]:
        """Name of a step -> function, in order."""
        return {
            "train": self.train,
            "prune": self.prune,
            "together": self.export_together,
            "onnx": lambda: self.measure("onnx"),
            "openvino": lambda: self.measure("openvino"),
            "tflite": lambda: self.measure("tflite"),
            "export pruned": self.export_pruned,
        }


def call(*arguments: object) -> None:
    """Run a command of edge-mrcnn in a process of its own.

    Raises:
        StepError: If it fails, or takes longer than `LIMIT_S`.
    """
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = FORKS.Process(target=run_command, args=([str(argument) for argument in arguments], log.name))
        process.start()
        process.join(LIMIT_S)
        if process.is_alive():
            process.kill()
            raise StepError(f"still running after {LIMIT_S} s")
        if process.exitcode:
            said = Path(log.name).read_text(errors="replace")
            lines = [line.strip() for line in said.splitlines() if line.strip()]
            raise StepError(lines[-1] if lines else f"exit code {process.exitcode}")


def run_command(arguments: list[str], log: str) -> None:
    """What a process does: one command, whose output goes into a file."""
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from edge_mrcnn.cli import main as run

    sys.argv = ["edge-mrcnn", *arguments]
    run()


def shortest_run_ms(file: Path) -> float:
    """Milliseconds of the network, on one thread."""
    import runtimes

    with runtimes.load(file, threads=1) as model:
        height, width = model.card.input_size_hw
        picture = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            model.run(picture)
            times.append(1000 * (time.perf_counter() - start))
    return min(times)


def size_of(file: Path) -> float:
    """Megabytes of a model file and of its weights beside it."""
    weights = file.with_suffix(".bin")
    files = [file, weights] if file.suffix == ".xml" else [file]
    return sum(path.stat().st_size for path in files) / 1e6


def run_steps(job: Job) -> Record:
    """Run the missing steps, and save the results after each one."""
    job.folder.mkdir(parents=True, exist_ok=True)
    file = job.folder / "result.json"
    record: Record = json.loads(file.read_text()) if file.is_file() else {}
    for name, step in job.steps().items():
        if "error" not in record.get(name, {"error": "not done"}):
            continue
        click.echo(f"{job.net}: {name}", err=True)
        try:
            record[name] = step()
        except Exception as error:  # an error of a step is a result of this table
            record[name] = {"error": f"{error}"[:200]}
        file.write_text(json.dumps(record, indent=1))
        if "error" in record["train"]:
            break
    return record


def to_row(net: str, record: Record) -> str:
    """A line of the table."""
    failed = [f"{name}: {result['error']}" for name, result in record.items() if "error" in result]
    trained = record.get("train", {})
    ap = f"{100 * trained['box']:.1f} / {100 * trained['mask']:.1f}" if "box" in trained else "-"
    pruned = record.get("prune", {})
    gmac = f"{pruned['macs'] / 1e9:.2f}" if "macs" in pruned else "-"
    left = f"{100 * pruned['left'] / pruned['macs']:.0f} %" if "macs" in pruned else "-"
    files = [_file_cell(record.get(target, {})) for target in SUFFIXES]
    remarks = "; ".join(failed) or "nothing"
    return f"| {' | '.join([net, ap, gmac, left, *files, remarks])} |"


def _file_cell(result: Record) -> str:
    return f"{result['ms']:.1f} / {result['mb']:.2f}" if "ms" in result else "-"


@click.command()
@click.argument("nets", nargs=-1)
@click.option("--size", default="192", show_default=True, help="Input size.")
@click.option("--scenes", type=int, default=320, show_default=True, help="Generated scenes to train on.")
@click.option("--epochs", type=int, default=6, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/timm"), show_default=True)
def main(nets: Sequence[str], size: str, scenes: int, epochs: int, output: Path) -> None:
    """Take timm nets (all of the table unless some are named) through every step."""
    FORKS.set_forkserver_preload(list(SLOW_IMPORTS))
    data = output / "scenes"
    if not (data / "annotations").is_dir():
        call("scenes", "--train", scenes, "--val", max(2, scenes // 8), "--imgsz", size, "-o", data)
    rows = []
    for net in nets or NETS:
        job = Job(net, output / net, data, size, epochs)
        rows.append(to_row(net, run_steps(job)))
    click.echo(HEADER)
    for row in rows:
        click.echo(row)


if __name__ == "__main__":
    main()
