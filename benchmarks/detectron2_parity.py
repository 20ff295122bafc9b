"""How near an imported Detectron2 checkpoint comes to what Detectron2 itself answered, on each runtime.

    python benchmarks/detectron2_parity.py --case DIR --runtimes torch,onnx,openvino,tflite --ablate

DIR holds `picture.png`, `config.yaml`, `reference.npz` (boxes (N, 4) xyxy px, scores, labels from 0, masks (N, 28, 28)
probabilities; of the picture as it is, fed as BGR bytes), and `model_final.pth`, or `make_checkpoint.py` and
`names.json`, which make it from a seed. The sides of the picture are multiples of 64.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import runtimes
from edge_mrcnn.export.pipeline import ExportConfig, adapt, export
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint, restore_model
from edge_mrcnn.model.importers.origin import Origin
from edge_mrcnn.reference import TorchRuntime
from edge_mrcnn.tables import Table
from runtimes.base import RawOutputs, Runtime
from runtimes.parity import Parity, Tolerance, compare_answers
from runtimes.preprocess import read_image

ALL = Tolerance(margin=0.0)
"""Every detection counts."""

ABLATIONS: dict[str, dict[str, object]] = {
    "stride in the other convolution": {"stride_in_1x1": None},
    "1 sample per bin and axis": {"roi_samples": 1},
    "2 samples per bin and axis": {"roi_samples": 2},
    "anchors rounded": {"anchors_rounded": True},
    "RoIAlign not aligned": {"roi_aligned": False},
}
"""What is left out, and the settings that leave it out; None turns a setting over."""


def main() -> None:
    options = parse_options()
    image = read_image(options.case / "picture.png")
    expected = read_reference(options.case / "reference.npz")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        weights = find_weights(options.case, Path(folder), options.seed)
        origin = Origin(config=options.case / "config.yaml")
        config = ExportConfig(image_size_hw=(image.shape[0], image.shape[1]))
        for name in options.runtimes.split(","):
            with open_runtime(name, weights, origin, config, Path(folder)) as runtime:
                rows.append(row(name, measure(runtime, image, expected)))
        if options.ablate:
            checkpoint = adapt(load_checkpoint(weights, origin), config)
            for what, parity in ablate(checkpoint, image, expected):
                rows.append(row(f"torch, {what}", parity))
    head = ("runtime", "found", "beside them", "box px", "score", "mask")
    print("\n".join(Table(head, tuple(rows)).markdown()))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, required=True)
    parser.add_argument("--runtimes", default="torch", help="torch, onnx, openvino, tflite, separated by commas")
    parser.add_argument("--seed", type=int, default=5, help="of the weights that make_checkpoint.py draws")
    parser.add_argument("--ablate", action="store_true", help="leave out one thing at a time, in torch")
    return parser.parse_args()


def find_weights(case: Path, folder: Path, seed: int) -> Path:
    """The checkpoint of a case, made where it is not there."""
    if (case / "model_final.pth").is_file():
        return case / "model_final.pth"
    made = folder / "model_final.pth"
    names = case / "names.json"
    subprocess.run([sys.executable, case / "make_checkpoint.py", names, str(seed), made], check=True)
    return made


def read_reference(path: Path) -> RawOutputs:
    """What Detectron2 answered."""
    with np.load(path) as record:
        return RawOutputs(*(record[name] for name in RawOutputs._fields))


def open_runtime(name: str, weights: Path, origin: Origin, config: ExportConfig, folder: Path) -> Runtime:
    """The checkpoint in torch, or exported, verified and opened in another runtime."""
    if name == "torch":
        return TorchRuntime(adapt(load_checkpoint(weights, origin), config), device="cpu")
    settings = replace(config, targets=(name,))
    (file,) = export(weights, folder, settings, origin=origin, say=lambda line: print(line, file=sys.stderr))
    return runtimes.load(file)


def measure(runtime: Runtime, image: np.ndarray, expected: RawOutputs) -> Parity:
    """Compare one answer with Detectron2's; masks of float16 differ by up to 2.4e-4 from their own float32."""
    card = runtime.card.updated(max_detections=len(expected.scores) + 1)  # no row counts as the last one that fitted
    return compare_answers([expected], [runtime.run(image[None])], card, ALL)


def ablate(checkpoint: Checkpoint, image: np.ndarray, expected: RawOutputs) -> Iterator[tuple[str, Parity]]:
    """Leave out one thing at a time."""
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
