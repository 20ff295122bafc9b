"""Compare an imported checkpoint with Detectron2's inference, on each runtime.

    python benchmarks/detectron2_parity.py --case DIR --runtimes torch,onnx,openvino,tflite --ablate
    python benchmarks/detectron2_parity.py --runtimes torch,onnx,openvino,tflite

The first command compares with recorded detections of Detectron2. The second compares narrow models of every imported
architecture, MMDetection's included, with the tests' copy of Detectron2's inference
(tests/helpers/detectron2_model.py).

DIR holds `picture.png`, `config.yaml`, `reference.npz` (boxes (N, 4) xyxy px, scores, labels from 0, masks (N, 28, 28)
probabilities; of the picture as it is, fed as BGR bytes), and `model_final.pth`, or `make_checkpoint.py` and
`names.json`, which make it from a seed. The sides of the picture are multiples of 64.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

import runtimes
from edge_mrcnn.export.graph import SMALLEST_DETECTION_PX
from edge_mrcnn.export.pipeline import adapt, export
from edge_mrcnn.export.settings import ExportConfig
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint, restore_model
from edge_mrcnn.model.importers.origin import Origin
from edge_mrcnn.reference import TorchRuntime
from edge_mrcnn.tables import Table
from runtimes.base import RawOutputs, Runtime
from runtimes.parity import Parity, Tolerance, compare_outputs
from runtimes.preprocess import read_image

ALL = Tolerance(margin=0.0)
"""The score threshold 0: all detections are compared."""

ABLATIONS: dict[str, dict[str, object]] = {
    "stride in the other convolution": {"stride_in_1x1": None},
    "1 sample per bin and axis": {"roi_samples": 1},
    "2 samples per bin and axis": {"roi_samples": 2},
    "anchors rounded": {"anchors_rounded": True},
    "RoIAlign not aligned": {"roi_aligned": False},
}
"""Name of an ablation -> its settings; None negates a setting."""


SIZE_HW = (128, 192)
"""Size of the picture for narrow models."""


def main() -> None:
    options = parse_options()
    names = options.runtimes.split(",")
    head = ("model and runtime", "found", "beside them", "box px", "score", "mask")
    print("\n".join(Table(head, ()).markdown()), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if options.case:
            rows = compare_case(options.case, options.seed, names, options.ablate, Path(folder))
        else:
            rows = compare_narrow_models(names, options.kinds, Path(folder))
        for cells in rows:
            print(f"| {' | '.join(cells)} |", flush=True)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, help="folder with what Detectron2 answered; else narrow models are made")
    parser.add_argument("--runtimes", default="torch", help="torch, onnx, openvino, tflite, separated by commas")
    parser.add_argument("--kinds", default="", help="narrow models whose title has this, such as R101; else all")
    parser.add_argument("--seed", type=int, default=5, help="of the weights that make_checkpoint.py draws")
    parser.add_argument("--ablate", action="store_true", help="leave out one thing at a time, in torch; with --case")
    return parser.parse_args()


def compare_case(case: Path, seed: int, names: Sequence[str], ablates: bool, folder: Path) -> Iterator[tuple[str, ...]]:
    """Rows of a checkpoint that Detectron2 answered for."""
    image = read_image(case / "picture.png")
    expected = read_reference(case / "reference.npz")
    weights = find_weights(case, folder, seed)
    origin = Origin(config=case / "config.yaml")
    config = ExportConfig(image_size_hw=(image.shape[0], image.shape[1]))
    for name, runtime in open_runtimes(names, weights, origin, config, folder):
        yield row(name, measure(runtime, image, expected))
    if ablates:
        checkpoint = adapt(load_checkpoint(weights, origin), config)
        for what, parity in ablate(checkpoint, image, expected):
            yield row(f"torch, {what}", parity)


def compare_narrow_models(names: Sequence[str], kinds: str, folder: Path) -> Iterator[tuple[str, ...]]:
    """Rows of small random models whose title contains a word, against Detectron2's inference in the tests."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
    import detectron2_model
    import mmdetection_model
    import torch

    image = make_picture()
    config = ExportConfig(image_size_hw=SIZE_HW)
    for number, (title, recipe, version) in enumerate(narrow_models(detectron2_model, mmdetection_model)):
        if kinds not in title:
            continue
        weights = folder / str(number) / "model_final.pth"
        weights.parent.mkdir()
        if version:
            classes = detectron2_model.class_names(recipe)
            torch.save(mmdetection_model.mmdetection_record(version, classes), weights)
        else:
            torch.save({"model": detectron2_model.make_state(recipe)}, weights)
            (weights.parent / "config.yaml").write_text(yaml.safe_dump(recipe.config()))
        answer = detectron2_model.infer(detectron2_model.make_state(recipe), recipe, torch.from_numpy(image))
        expected = without_slivers(RawOutputs(*(values.numpy() for values in answer)))
        for name, runtime in open_runtimes(names, weights, Origin(), config, weights.parent):
            yield row(f"{title}, {name}", measure(runtime, image, expected))


def narrow_models(detectron2_model: Any, mmdetection_model: Any) -> Iterator[tuple[str, Any, int]]:
    """Title, recipe, and MMDetection's version or 0, of each kind."""
    # The limit is above the number of detections, so it cuts none off.
    make = partial(detectron2_model.Recipe, detections=400)
    rgb = {"format": "RGB", "mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
    yield "Detectron2 R50, stride in 1x1", make(), 0
    yield "Detectron2 R50, stride in 3x3, RGB", make(stride_in_1x1=False, **rgb), 0
    yield "Detectron2 R50, ROIAlign of version 1, 2 samples", make(aligned=False, samples=2), 0
    yield "Detectron2 R101, 7 classes", make(depth=101, classes=7), 0
    yield "Detectron2 R101, stride in 3x3, 1 class", make(depth=101, classes=1, stride_in_1x1=False), 0
    for version, recipe in mmdetection_model.VERSIONS.items():
        yield f"MMDetection {version} R{recipe.depth}", recipe, version


def without_slivers(answer: RawOutputs) -> RawOutputs:
    """Detections of a hundredth of a pixel or more; Detectron2 keeps thinner ones, torchvision and we do not."""
    sides = answer.boxes[:, 2:] - answer.boxes[:, :2]
    is_box = (sides >= SMALLEST_DETECTION_PX).all(1)
    return RawOutputs(*(values[is_box] for values in answer))


def make_picture() -> np.ndarray:
    """(H, W, 3) uint8 RGB: smooth noise, so that detections exist."""
    coarse = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    return cv2.resize(coarse, SIZE_HW[::-1], interpolation=cv2.INTER_LINEAR)


def find_weights(case: Path, folder: Path, seed: int) -> Path:
    """The checkpoint of a case, made if it is missing."""
    if (case / "model_final.pth").is_file():
        return case / "model_final.pth"
    made = folder / "model_final.pth"
    names = case / "names.json"
    subprocess.run([sys.executable, case / "make_checkpoint.py", names, str(seed), made], check=True)
    return made


def read_reference(path: Path) -> RawOutputs:
    """Detectron2's detections of a case."""
    with np.load(path) as record:
        return RawOutputs(*(record[name] for name in RawOutputs._fields))


def open_runtimes(
    names: Sequence[str], weights: Path, origin: Origin, config: ExportConfig, folder: Path
) -> Iterator[tuple[str, Runtime]]:
    """The checkpoint in torch, and exported, verified and opened in other runtimes, one after the other."""
    if "torch" in names:
        yield "torch", TorchRuntime(adapt(load_checkpoint(weights, origin), config), device="cpu")
    targets = tuple(name for name in names if name != "torch")
    if not targets:
        return
    settings = replace(config, targets=targets)
    files = export(weights, folder, settings, origin=origin, say=lambda line: print(line, file=sys.stderr))
    for name, file in zip(targets, files, strict=True):
        with runtimes.load(file) as runtime:
            yield name, runtime


def measure(runtime: Runtime, image: np.ndarray, expected: RawOutputs) -> Parity:
    """Compare the detections with Detectron2's; masks of float16 differ by up to 2.4e-4 from their own float32."""
    # The limit is above the number of rows, so no row counts as cut off by it.
    card = runtime.card.updated(max_detections=len(expected.scores) + 1)
    return compare_outputs([expected], [runtime.run(image[None])], card, ALL)


def ablate(checkpoint: Checkpoint, image: np.ndarray, expected: RawOutputs) -> Iterator[tuple[str, Parity]]:
    """Run the ablations."""
    for what, changes in ABLATIONS.items():
        settings = {key: not getattr(checkpoint.config, key) if v is None else v for key, v in changes.items()}
        config = checkpoint.config.updated(**settings)
        model = restore_model(config, len(checkpoint.classes), checkpoint.model.state_dict())
        yield (
            what,
            measure(TorchRuntime(replace(checkpoint, model=model, config=config), device="cpu"), image, expected),
        )


def row(name: str, parity: Parity) -> tuple[str, ...]:
    return (
        name,
        f"{parity.matched} of {parity.detections}",
        str(parity.surplus),
        f"{parity.box_px:.2g}",
        f"{parity.score:.2g}",
        f"{parity.mask:.2g}",
    )


if __name__ == "__main__":
    main()
