"""Toy models, one file per format. They are made once per session, when a test first requests them.

Each returns as many detections as the red value of the image's first pixel says, so that a plain picture of colour
(n, 0, 0) has n of them; boxes, scores, labels and masks are known.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from edge_mrcnn.config import ModelConfig
from runtimes import CARD_KEY, ModelCard, ModelFile
from runtimes.formats import files_of
from runtimes.seal import write_seal

ROWS, BATCH, SIDE = 6, 4, 14


class Scene(NamedTuple):
    """Classes of the toy models."""

    card: ModelCard
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


class ExportedModel(NamedTuple):
    """A torchvision Mask R-CNN and its exported file."""

    model: Any
    path: Path


class Outcome(NamedTuple):
    """Output and exit code of a command line."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Undo a command's changes to the logs of its process at the end of each test."""
    root, hooks = logging.getLogger(), (sys.excepthook, threading.excepthook)
    root.setLevel(logging.WARNING)
    for handler in root.handlers:  # a converter raises the level of all handlers that it finds, pytest's among them
        handler.setLevel(logging.NOTSET)
    yield
    sys.excepthook, threading.excepthook = hooks
    for handler in [handler for handler in root.handlers if type(handler) is logging.StreamHandler]:
        root.removeHandler(handler)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command line in this process."""
    from edge_mrcnn.cli import main

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["edge-mrcnn", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        return Outcome(int(exit_.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def scene() -> Scene:
    card = ModelCard(
        name="toy",
        classes=("cat", 'a "quoted" <dog> é'),
        category_ids=(17, 18),
        input_size_hw=(64, 96),
        pad_rgb=(114, 114, 114),
        proposals=8,
        max_detections=ROWS,
        mask_size=SIDE,
        mask_offset=0.0,
        score_threshold=0.05,
        iou_threshold=0.5,
    )
    x0 = np.arange(ROWS) * 10 + 4.0
    boxes = np.stack([x0, x0 / 2, x0 + 24, x0 / 2 + 20], axis=1).astype(np.float32)
    scores = np.linspace(0.9, 0.4, ROWS, dtype=np.float32)
    labels = np.arange(ROWS) % 2
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    disc = (np.hypot(axis, axis[:, None]) < 0.9).astype(np.float32)
    return Scene(card, boxes, scores, labels, disc * (1 - 0.2 * labels[:, None, None].astype(np.float32)))


@pytest.fixture(scope="session")
def model_files(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Suffix -> model file with a card."""
    return ToyModels(tmp_path_factory.mktemp("toy models"), scene)


class ToyModels(dict[str, Path]):
    """Makes the file of a suffix at the first request."""

    def __init__(self, folder: Path, scene: Scene) -> None:
        super().__init__()
        self.folder = folder
        self._scene = scene

    def __missing__(self, suffix: str) -> Path:
        path = self.folder / f"toy{suffix}"
        if suffix == ".xml":
            write_openvino(path, self[".onnx"], self._scene)
        else:
            {".onnx": write_onnx, ".tflite": write_tflite}[suffix](path, self._scene)
        self[suffix] = path
        return path


def write_onnx(path: Path, scene: Scene) -> None:
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    constants = {
        "first": np.array([0, 0, 0, 0], np.int64),
        "second": np.array([1, 1, 1, 1], np.int64),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "all_boxes": scene.boxes,
        "all_scores": scene.scores,
        "all_labels": scene.labels.astype(np.int64),
        "all_masks": scene.masks,
    }
    names = ("boxes", "scores", "labels", "masks")
    nodes = [
        helper.make_node("Slice", ["image", "first", "second"], ["corner"]),
        helper.make_node("Reshape", ["corner", "one"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["count"], to=kinds.INT64),
        *(helper.make_node("Slice", [f"all_{name}", "zero", "count", "zero"], [name]) for name in names),
    ]
    kind = {"labels": kinds.INT64}
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", kinds.UINT8, [1, *scene.card.input_size_hw, 3])],
        [
            helper.make_tensor_value_info(n, kind.get(n, kinds.FLOAT), ["D", *constants[f"all_{n}"].shape[1:]])
            for n in names
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {CARD_KEY: scene.card.updated(target="onnx").to_json()})
    onnx.save(model, path)
    write_seal(path)


def write_openvino(path: Path, onnx_path: Path, scene: Scene) -> None:
    openvino = pytest.importorskip("openvino")
    model = openvino.convert_model(str(onnx_path))
    model.set_rt_info(scene.card.updated(target="openvino").to_json(), [CARD_KEY, "card"])
    openvino.save_model(model, str(path), compress_to_fp16=False)
    write_seal(path)


def write_tflite(path: Path, scene: Scene) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs edge-mrcnn[tflite]")
    from toy_tflite import write_toy

    write_toy(path, scene, BATCH)
    ModelFile(path).write_card(scene.card.updated(target="tflite"))


@pytest.fixture(scope="session")
def small_tflite(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """A small real Mask R-CNN with random weights that finds objects everywhere, and its TFLite file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter and its hundred dependencies
        pytest.importorskip("litert_torch")
        import torch

        from edge_mrcnn.export.graph import DeployGraph
        from edge_mrcnn.export.tflite_target import write_tflite
        from edge_mrcnn.model.mask_rcnn import build_model

        config = ModelConfig(
            name="small", image_size_hw=(64, 128), backbone="repvgg_lite", fpn_channels=16, box_hidden=(32,),
            mask_hidden=(16,), class_agnostic_boxes=False, proposals=16, proposals_per_level=40, max_detections=6,
        )  # fmt: skip
        torch.manual_seed(0)
        model = build_model(config, 3).eval()
        for layer in (model.rpn.head.cls_logits, model.roi_heads.box_predictor.cls_score):
            torch.nn.init.normal_(layer.weight, std=0.5)
        torch.nn.init.normal_(model.roi_heads.box_predictor.bbox_pred.weight, std=0.1)
        card = ModelCard(
            name="small", classes=("a", "b", "c"), category_ids=(1, 2, 3), input_size_hw=config.image_size_hw,
            pad_rgb=(124, 116, 104), proposals=16, max_detections=6, mask_size=28, score_threshold=0.05,
            iou_threshold=0.5, target="tflite",
        )  # fmt: skip
        path = tmp_path_factory.mktemp("small model") / "small.tflite"
        write_tflite(DeployGraph(model, config), card, path)
    return ExportedModel(model, path)


PI_FEATURES = "fp asimd evtstrm crc32 cpuid"
FAKE_BOARDS: dict[str, dict[str, str]] = {  # name -> file of /proc or /sys, its text; {cpu} stands for each core
    "pi4": {
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
        "proc/cpuinfo": f"processor\t: {{cpu}}\nFeatures\t: {PI_FEATURES}\nCPU implementer\t: 0x41\nCPU part\t: 0xd08",
        "proc/meminfo": "MemTotal:        3885396 kB",
        "sys/devices/system/cpu/online": "0-3",
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor": "ondemand",
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq": "600000",
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq": "1800000",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "61342",
    },
    "pi5": {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/cpuinfo": f"processor\t: {{cpu}}\nFeatures\t: {PI_FEATURES} asimdhp asimddp\n"
        "CPU implementer\t: 0x41\nCPU part\t: 0xd0b",
        "proc/meminfo": "MemTotal:        8245840 kB",
        "sys/devices/system/cpu/online": "0-3",
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor": "performance",
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq": "2400000",
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq": "2400000",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "48000",
        "sys/class/thermal/cooling_device0/type": "pwm-fan",
        "sys/class/thermal/cooling_device0/cur_state": "2",
    },
    "orin": {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "proc/cpuinfo": f"processor\t: {{cpu}}\nFeatures\t: {PI_FEATURES} asimdhp asimddp\n"
        "CPU implementer\t: 0x41\nCPU part\t: 0xd42",
        "proc/meminfo": "MemTotal:        7802012 kB",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
        "sys/devices/system/cpu/online": "0-5",
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor": "schedutil",
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq": "729600",
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_max_freq": "1510400",
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq": "1728000",
        "sys/class/thermal/thermal_zone0/type": "gpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "70000",
        "sys/class/thermal/thermal_zone1/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone1/temp": "51031",
        "sys/class/hwmon/hwmon3/oc1_event_cnt": "0",
        "sys/class/hwmon/hwmon3/oc2_event_cnt": "1",
        "sys/class/hwmon/hwmon3/oc3_event_cnt": "927",
    },
    "pi3 of 32 bits": {
        "proc/device-tree/model": "Raspberry Pi 3 Model B Plus Rev 1.3\0",
        "proc/cpuinfo": "processor\t: {cpu}\nmodel name\t: ARMv7 Processor rev 4 (v7l)\n"
        "Features\t: half thumb vfp neon vfpv4\nCPU implementer\t: 0x41\nCPU part\t: 0xd03",
        "proc/meminfo": "MemTotal:         945512 kB",
        "sys/devices/system/cpu/online": "0-3",
    },
    "old pc": {
        "proc/cpuinfo": "processor\t: {cpu}\nmodel name\t: Intel(R) Core(TM) i5-6500 CPU @ 3.20GHz\n"
        "flags\t\t: fpu sse4_2 avx avx2 f16c",
        "proc/meminfo": "MemTotal:       16303428 kB",
        "sys/class/dmi/id/sys_vendor": "Dell Inc.",
        "sys/class/dmi/id/product_name": "OptiPlex 7040",
        "sys/devices/system/cpu/online": "0-3",
        "sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count": "5",
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor": "powersave",
        "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
        "sys/class/thermal/thermal_zone0/temp": "55000",
    },
}


@pytest.fixture
def plant_board(tmp_path: Path) -> Callable[..., Path]:
    """A function (name, changes) that writes the /proc and /sys of a board and gives their root."""

    def plant(name: str, changes: dict[str, str] | None = None) -> Path:
        root = tmp_path / name
        files = {**FAKE_BOARDS[name], **(changes or {})}
        cores = range(6 if name == "orin" else 4)
        for file, text in files.items():
            joined = "\n\n".join(text.replace("{cpu}", str(cpu)) for cpu in cores) if "{cpu}" in text else text
            for path in {root / file.replace("{cpu}", str(cpu)) for cpu in cores}:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{joined}\n")
        return root

    return plant


@pytest.fixture
def plant_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """A function (name, shell script) that puts a program of that name first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def plant(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return plant


@pytest.fixture(scope="session")
def toy_config() -> ModelConfig:
    return ModelConfig(
        name="toy", image_size_hw=(64, 128), backbone="repvgg_lite", fpn_channels=16, box_hidden=(32,),
        mask_hidden=(16,), proposals=16, proposals_per_level=40, max_detections=6,
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_lively() -> Callable[..., Any]:
    """A function (config, classes, seed) that builds a model whose scores and boxes differ from place to place."""
    return _make_lively


def _make_lively(config: ModelConfig, classes: int, seed: int = 0) -> Any:
    import torch
    from torch import nn

    from edge_mrcnn.model.mask_rcnn import build_model

    torch.manual_seed(seed)
    model = build_model(config, classes).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 2)
            layer.running_mean.normal_(0, 0.1)
    _normalise_pyramid(model, config)
    for layer, deviation in (
        (model.rpn.head.cls_logits, 0.3),
        (model.rpn.head.bbox_pred, 0.03),
        (model.roi_heads.box_predictor.cls_score, 0.5),
        (model.roi_heads.box_predictor.bbox_pred, 0.1),
    ):
        nn.init.normal_(layer.weight, std=deviation)
    return model


def _normalise_pyramid(model: Any, config: ModelConfig) -> None:
    """Scale the last convolutions of the pyramid so that its maps are of unit size: no score saturates."""
    import torch

    noise = torch.randn(1, 3, *config.image_size_hw, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = model.backbone(noise)
        for block, features in zip(model.backbone.fpn.layer_blocks, maps.values(), strict=False):
            layer = block[-1] if isinstance(block[-1], torch.nn.BatchNorm2d) else block[0]
            layer.weight.div_(features.std())


@pytest.fixture(scope="session")
def toy_checkpoint(tmp_path_factory: pytest.TempPathFactory, toy_config: ModelConfig) -> Path:
    """A saved lively model with the classes of the toy data."""
    from edge_mrcnn.model.checkpoint import Checkpoint, save_checkpoint

    path = tmp_path_factory.mktemp("toy checkpoint") / "toy.pt"
    model = _make_lively(toy_config, 2)
    save_checkpoint(path, Checkpoint(model=model, config=toy_config, classes=("square", "disc"), category_ids=(3, 7)))
    return path


@pytest.fixture
def shipped_toy(
    model_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of an installed people model: toy files, and a black and a red photograph."""
    place = tmp_path_factory.mktemp("installed")
    folder = place / "edge_mrcnn_people"
    (folder / "photographs").mkdir(parents=True)
    (folder / "__init__.py").touch()
    for suffix in (".onnx", ".xml", ".tflite"):
        for file in files_of(model_files[suffix]):
            shutil.copy(file, folder / f"people{file.suffix}")
    for name, red in (("a.jpg", 0), ("b.jpg", 200)):
        cv2.imwrite(str(folder / "photographs" / name), np.full((64, 64, 3), (0, 0, red), np.uint8))
    monkeypatch.syspath_prepend(place)
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, and beside it those of the people model, which its extras bring."""
    pytest.importorskip("hatchling", reason="pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    root = Path(__file__).parents[1]
    people = root / "models" / "people"
    for project in (root, people, people / "weights"):
        subprocess.run(command, check=True, capture_output=True, cwd=project)
    return next(folder.glob("edge_mrcnn-*.whl"))


@pytest.fixture(scope="session")
def uv() -> str:
    """The installer; tests that install are skipped without it or without a package index."""
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    return found or pytest.skip("needs uv: pip install uv")
