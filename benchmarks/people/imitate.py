"""Train a dense backbone from random weights to imitate the feature maps of a trained one, on pictures without labels.

    python benchmarks/people/imitate.py --images DIR --images DIR --teacher scratch/people/backbone.pth -o runs/imitate

The teacher is NanoDet-m's ShuffleNetV2 (COCO, Apache-2.0), see prepare.py. Each of its maps at strides 8, 16 and 32 is
standardised channel by channel; a 1x1 convolution takes the student's map to its width, and the loss is the mean
squared error, so that 1 - loss is the share of the teacher's variance that the student explains (FitNets, arXiv
1412.6550). Every augmentation is valid, since the teacher sees the same pixels.

On a GPU `--device cuda --workers 14 --batches 8 --lr 4e-3` makes steps of eight times as many pictures, which other
processes prepare.

The learning rate is constant until the last `--decay` steps, in which it falls to zero: more `--steps` make a longer
run of one that has not begun to fall. The pictures of a step depend on its number alone, so a run with `--resume`
gives the same result as one without a break. `backbone.pth` is the moving average of the student's weights, for `train
--backbone-weights`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from edge_mrcnn.model.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, build_backbone

LONG_SIDE = 416
"""Pictures are kept in memory with this longer side, in pixels."""
SIZES = ((128, 64), (160, 48), (192, 32), (224, 24), (256, 16))
"""Side of the crops of a step in pixels, and how many there are: about as many pixels in each step."""
LEAST_AREA = 0.08
"""Smallest share of a picture that a crop shows."""
MIXED = 0.3
"""Share of crops into which a part of another one is pasted (CutMix, arXiv 1905.04899, without labels)."""
WARM_UP = 500
"""Steps in which the learning rate rises."""
AVERAGE = 0.9995
"""Decay of the moving average of the weights."""
MEASURED = 24
"""Batches from which the mean and deviation of the teacher's channels are taken."""
FIRST_MEASURED = 10**9
"""Number of the first of them, beyond those of all steps."""
REPORT_EVERY, SAVE_EVERY = 100, 500


@dataclass(frozen=True)
class Schedule:
    """The length of the training and its learning rates."""

    steps: int
    decay: int
    lr: float

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        warm = min(1.0, (step + 1) / WARM_UP)
        left = min(1.0, (self.steps - step) / self.decay)
        return self.lr * warm * left


def read_pictures(folders: tuple[Path, ...]) -> list[np.ndarray]:
    """All JPEG files below some folders, (h, w, 3) uint8 RGB each."""
    pictures = []
    for folder in folders:
        for file in sorted(folder.rglob("*.jpg")):
            picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
            scale = LONG_SIDE / max(picture.shape[:2])
            if scale < 1:
                picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    return pictures


def random_crop(picture: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A part of a picture of random size and shape as (side, side, 3) uint8, mirrored half of the time, recoloured."""
    height, width = picture.shape[:2]
    area = height * width * np.exp(rng.uniform(np.log(LEAST_AREA), 0))
    aspect = np.exp(rng.uniform(-0.4, 0.4))
    crop_height = min(height, max(16, round(np.sqrt(area / aspect))))
    crop_width = min(width, max(16, round(np.sqrt(area * aspect))))
    top = rng.integers(height - crop_height + 1)
    left = rng.integers(width - crop_width + 1)
    crop = picture[top : top + crop_height, left : left + crop_width]
    way = cv2.INTER_AREA if crop_height > side else cv2.INTER_LINEAR
    crop = cv2.resize(crop, (side, side), interpolation=way)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return recolour(crop, rng)


def recolour(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other brightness, contrast and white balance; one in ten without colour."""
    gains = rng.uniform(0.6, 1.4) * rng.uniform(0.85, 1.15, 3)
    shift = rng.uniform(-30, 30)
    changed = crop.astype(np.float32) * gains.astype(np.float32) + np.float32(shift)
    if rng.random() < 0.1:
        changed = np.repeat(changed.mean(2, keepdims=True), 3, 2)
    return np.clip(changed, 0, 255).astype(np.uint8)


def mix(crops: list[np.ndarray], rng: np.random.Generator) -> None:
    """Paste a rectangle of the crop before into some crops, in place."""
    side = len(crops[0])
    for index in range(len(crops)):
        if rng.random() >= MIXED:
            continue
        height, width = rng.integers(side // 4, 3 * side // 4, 2)
        top, left = rng.integers(side - height), rng.integers(side - width)
        part = np.s_[top : top + height, left : left + width]
        mixed = crops[index].copy()
        mixed[part] = crops[index - 1][part]
        crops[index] = mixed


def make_batch(pictures: list[np.ndarray], step: int, seed: int, batches: int = 1) -> Tensor:
    """(B, 3, S, S) uint8 RGB of a step; `batches` times the pictures of SIZES."""
    rng = np.random.default_rng((seed, step))
    side, count = SIZES[rng.integers(len(SIZES))]
    crops = []
    for index in rng.integers(len(pictures), size=batches * count):
        crops.append(random_crop(pictures[index], side, rng))
    mix(crops, rng)
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Batches(Dataset[Tensor]):
    """The batches of the steps from `first` to `end`, by number, so that processes can make them ahead of time."""

    pictures: list[np.ndarray]
    first: int
    end: int
    seed: int
    batches: int

    def __len__(self) -> int:
        return self.end - self.first

    def __getitem__(self, index: int) -> Tensor:
        if index >= len(self):
            raise IndexError(index)
        return make_batch(self.pictures, self.first + index, self.seed, self.batches)

    def ahead(self, workers: int) -> Iterator[Tensor]:
        """All of them in order; forked processes share the memory of the pictures."""
        context = "fork" if workers else None
        return iter(DataLoader(self, batch_size=None, num_workers=workers, multiprocessing_context=context))


class StandardisedTeacher(nn.Module):
    """A frozen backbone whose channels have mean 0 and deviation 1 over the pictures that it was measured on."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD)[:, None, None])
        self.moments: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def measure(self, batches: list[Tensor]) -> None:
        """Take mean and deviation of every channel."""
        levels = zip(*map(self._maps, batches), strict=True)
        for maps in levels:
            values = torch.cat([one.transpose(0, 1).flatten(1) for one in maps], 1)
            self.moments.append((values.mean(1)[:, None, None], values.std(1)[:, None, None] + 1e-4))

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) uint8 RGB to the standardised maps."""
        pairs = zip(self._maps(images), self.moments, strict=True)
        return [(one - mean) / std for one, (mean, std) in pairs]

    def _maps(self, images: Tensor) -> list[Tensor]:
        return self.backbone((images.float() - self.mean) / self.std)


class Imitation:
    """Student, adapters, optimizer and the moving average; all of them are saved and resumed."""

    def __init__(self, student: Backbone, teacher: StandardisedTeacher, lr: float, device: str = "cpu") -> None:
        widths = zip(student.channels, teacher.backbone.channels, strict=True)
        self.adapters = nn.ModuleList(nn.Conv2d(own, theirs, 1) for own, theirs in widths)
        self.student, self.teacher = student, teacher
        self.both = nn.ModuleDict({"student": student, "adapters": self.adapters}).train().to(device)
        # Channels last is 1.4 times as fast as planes, in bfloat16 on a CPU with AMX.
        self.both.to(memory_format=torch.channels_last)
        self.teacher.to(memory_format=torch.channels_last)
        self.average = {key: value.clone() for key, value in student.net.state_dict().items()}
        weights = [p for p in self.both.parameters() if p.ndim > 1]
        others = [p for p in self.both.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr)
        self.step = 0

    def learn(self, images: Tensor, rate: float) -> Tensor:
        """One step; the loss of each map, (3,)."""
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16):
            targets = self.teacher(images)
            maps = self.student(images.float() / 255)
            imitated = [adapt(own) for adapt, own in zip(self.adapters, maps, strict=True)]
        pairs = zip(imitated, targets, strict=True)
        losses = torch.stack([nn.functional.mse_loss(own.float(), theirs.float()) for own, theirs in pairs])
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        nn.utils.clip_grad_norm_(self.both.parameters(), 5.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self._follow()
        self.step += 1
        return losses.detach()

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(AVERAGE, (self.step + 1) / (self.step + 10))
        for key, value in self.student.net.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)
            else:
                self.average[key].copy_(value)

    def save(self, folder: Path) -> None:
        """Write the state, and the averaged weights for `train`; an earlier state stays until this one is whole."""
        state = {
            "both": self.both.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
        }
        torch.save(state, folder / "state.new")
        (folder / "state.new").replace(folder / "state.pt")
        torch.save(self.average, folder / "backbone.pth")

    def resume(self, folder: Path) -> None:
        """Resume from a file of `save`."""
        device = next(self.both.parameters()).device
        state: dict[str, Any] = torch.load(folder / "state.pt", weights_only=True, map_location=device)
        self.both.load_state_dict(state["both"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step = state["average"], state["step"]


@click.command(help=__doc__)
@click.option("--images", type=click.Path(path_type=Path, exists=True), multiple=True, required=True)
@click.option("--teacher", "teacher_weights", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--student", default="repvgg_deep", show_default=True)
@click.option("--steps", default=40_000, show_default=True)
@click.option("--decay", default=5_000, show_default=True)
@click.option("--lr", default=2e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Of torch on the CPU.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--workers", default=0, show_default=True, help="Processes that prepare pictures.")
@click.option("--batches", default=1, show_default=True, help="How many times the usual pictures a step has.")
@click.option(
    "--measured", default=MEASURED, show_default=True, help="Batches that the teacher's channels are taken from."
)
@click.option("--minutes", type=float, help="Stop after so many, with everything saved.")
@click.option("--resume", is_flag=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/imitate"), show_default=True)
def main(
    images: tuple[Path, ...], teacher_weights: Path, student: str, steps: int, decay: int, lr: float, seed: int,
    threads: int, device: str, workers: int, batches: int, measured: int, minutes: float | None, resume: bool,
    output: Path,
) -> None:  # fmt: skip
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    torch.manual_seed(seed)
    output.mkdir(parents=True, exist_ok=True)
    pictures = read_pictures(images)
    click.echo(f"{len(pictures)} pictures")
    teacher = StandardisedTeacher(build_backbone("shufflenet_v2_x1_0_leaky", weights=teacher_weights))
    teacher.measure([make_batch(pictures, FIRST_MEASURED + number, seed) for number in range(measured)])
    teacher.to(device)
    teacher.moments = [(mean.to(device), std.to(device)) for mean, std in teacher.moments]
    imitation = Imitation(build_backbone(student), teacher, lr, device)
    if resume and (output / "state.pt").exists():
        imitation.resume(output)
    ahead = Batches(pictures, imitation.step, steps, seed, batches).ahead(workers)
    ends = math.inf if minutes is None else time.perf_counter() + 60 * minutes
    run(imitation, ahead, Schedule(steps, decay, lr), ends, output)


def run(imitation: Imitation, batches: Iterator[Tensor], schedule: Schedule, ends: float, output: Path) -> None:
    """Train to the last step or until the time is over, with a line of JSON every hundred steps."""
    device = next(imitation.both.parameters()).device
    start, seen, sums = time.perf_counter(), 0, torch.zeros(3)
    with (output / "log.jsonl").open("a") as log:
        for batch in batches:
            losses = imitation.learn(batch.to(device, non_blocking=True), schedule.rate(imitation.step))
            sums += losses.cpu()
            seen += len(batch)
            is_last = imitation.step == schedule.steps or time.perf_counter() > ends
            if imitation.step % REPORT_EVERY == 0:
                explained = [round(1 - float(one) / REPORT_EVERY, 4) for one in sums]
                speed = round(seen / (time.perf_counter() - start), 1)
                line = json.dumps({"step": imitation.step, "explained": explained, "images_per_s": speed})
                click.echo(line)
                log.write(line + "\n")
                log.flush()
                start, seen, sums = time.perf_counter(), 0, torch.zeros(3)
            if imitation.step % SAVE_EVERY == 0 or is_last:
                imitation.save(output)
            if is_last:
                break


if __name__ == "__main__":
    main()
