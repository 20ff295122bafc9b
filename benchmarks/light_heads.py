"""Compare light heads with torchvision's, on the same data, backbone and iterations.

    python benchmarks/light_heads.py --data DIR --backbone shufflenet_v2_x1_0_leaky --backbone-weights FILE -o FOLDER

Both models have the same frozen backbone, anchors, proposals and schedule. Light is the preset as it is; heavy has
torchvision's parts behind the backbone: a pyramid of 256 channels, two fully connected layers of 1,024, boxes per
class, four mask convolutions of 256 channels, and masks pooled by the level rule. Each pair of runs shares a seed.
Finished runs are kept in the folder and not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from edge_mrcnn.config import ModelConfig, TrainConfig, preset
from edge_mrcnn.data import load
from edge_mrcnn.evaluation.evaluate import evaluate
from edge_mrcnn.reference import load_reference
from edge_mrcnn.train.loop import train
from edge_mrcnn.train.start import start_fresh

HEAVY = {
    "fpn_channels": 256,
    "box_hidden": (1024, 1024),
    "class_agnostic_boxes": False,
    "mask_hidden": (256, 256, 256, 256),
    "mask_levels": 0,
}
"""Torchvision's parts behind the backbone."""


@dataclass(frozen=True)
class Run:
    """One training."""

    heads: str
    seed: int
    parameters: int
    box_ap: float
    mask_ap: float
    minutes: float


def main() -> None:
    options = parse()
    size = (options.imgsz, options.imgsz)
    light = preset("nano").updated(backbone=options.backbone, image_size_hw=size)
    variants = {"light": light, "heavy": light.updated(name="heavy", **HEAVY)}
    runs = [measure(heads, parts, seed, options) for seed in range(options.seeds) for heads, parts in variants.items()]
    print("\n".join(table(runs)))


def measure(heads: str, parts: ModelConfig, seed: int, options: argparse.Namespace) -> Run:
    """Train once and evaluate the averaged weights of the last epoch; an earlier result is read instead."""
    folder = options.output / f"{heads}-{seed}"
    record = folder / "result.json"
    if record.is_file():
        return Run(**json.loads(record.read_text()))
    data, validation = load(options.data, "train"), load(options.data, "val")
    config = TrainConfig(
        epochs=options.epochs, batch=options.batch, lr=options.lr, optimizer="adamw", freeze_norm=True,
        freeze_stages=-1, rois=options.rois, workers=options.workers, seed=seed,
    )  # fmt: skip
    start = time.monotonic()
    checkpoint = start_fresh(parts, data, seed, False, options.backbone_weights)
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    weights = train(checkpoint, data, folder, config, device=options.device)
    minutes = (time.monotonic() - start) / 60
    with load_reference(weights, options.device) as model:
        found = evaluate(model, validation)
    run = Run(heads, seed, parameters, found.box.ap, found.mask.ap, minutes)
    record.write_text(json.dumps(vars(run)))
    return run


def table(runs: list[Run]) -> list[str]:
    """Mean and spread of each variant, and of the paired differences, in AP points."""
    lines = ["| heads | M param | minutes | box AP | mask AP |", "|---|---:|---:|---:|---:|"]
    by_heads = {heads: [run for run in runs if run.heads == heads] for heads in ("light", "heavy")}
    for heads, group in by_heads.items():
        minutes = statistics.mean(run.minutes for run in group)
        box, mask = spread([run.box_ap for run in group]), spread([run.mask_ap for run in group])
        lines.append(f"| {heads} | {group[0].parameters / 1e6:.2f} | {minutes:.1f} | {box} | {mask} |")
    pairs = list(zip(by_heads["light"], by_heads["heavy"], strict=True))
    box = spread([light.box_ap - heavy.box_ap for light, heavy in pairs])
    mask = spread([light.mask_ap - heavy.mask_ap for light, heavy in pairs])
    lines.append(f"| light - heavy | | | {box} | {mask} |")
    return lines


def spread(values: list[float]) -> str:
    """Mean and standard deviation in points, with each value."""
    each = ", ".join(f"{100 * value:.1f}" for value in values)
    deviation = 100 * statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.2f} ± {deviation:.2f} ({each})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="COCO folder with train and val")
    parser.add_argument("--backbone", default="shufflenet_v2_x1_0_leaky")
    parser.add_argument("--backbone-weights", help="its state dict; the backbone stays as it is")
    parser.add_argument("--imgsz", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--rois", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/light_heads"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
