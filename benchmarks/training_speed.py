"""Images per second of this trainer beside torchvision's reference loop, and how long a step waits for data.

    python benchmarks/training_speed.py --data DIR --model nano --batch 8 --steps 40 --rounds 3

Both train the same parts with the same number of sampled regions, batch, precision, optimizer and workers on the same
images. The reference is torchvision's references/detection as it is: its own RoIAlign, transform (images resized in
the model, masks of the full image), data set, grouping by aspect ratio, data loader and loop with its logging of every
loss. Ours is `train` itself, with the moving average and the logs. The loops take turns, so that a busy machine is
fair to both; the first steps of each turn are not counted.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, Mask

from edge_mrcnn.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig, TrainConfig, preset
from edge_mrcnn.data import load
from edge_mrcnn.data.coco import CocoData, decode_mask
from edge_mrcnn.reference import pick_device
from edge_mrcnn.train.loop import train
from edge_mrcnn.train.precision import lightning_precision
from edge_mrcnn.train.start import start_fresh

WARM_UP = 3
"""Steps of each turn that are not counted."""
MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Type of the products in each of Lightning's mixed precisions."""


@dataclass
class Clock:
    """Times of one turn."""

    device: torch.device
    images: int = 0
    waited: float = 0.0
    seconds: float = 0.0
    steps: int = 0
    gib: float = math.nan
    """Peak memory of a GPU in GiB."""
    _started: float = 0.0
    _idle_since: float = 0.0

    def begin_step(self) -> None:
        """Note that a batch has arrived."""
        now = time.perf_counter()
        if self.steps == WARM_UP:
            self._synchronize()
            self._started = now
        elif self.steps > WARM_UP:
            self.waited += now - self._idle_since

    def end_step(self, images: int) -> None:
        """Note that the host has finished a batch."""
        self.steps += 1
        self.images += images if self.steps > WARM_UP else 0
        self._idle_since = time.perf_counter()

    def stop(self) -> None:
        """Note that the device has finished, too."""
        self._synchronize()
        self.seconds = time.perf_counter() - self._started
        if self.device.type == "cuda":
            self.gib = torch.cuda.max_memory_allocated(self.device) / 2**30

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class StepTimes(Callback):
    """Feeds a clock from Lightning's loop, and ends the training after enough steps."""

    def __init__(self, clock: Clock, steps: int) -> None:
        self.clock = clock
        self.steps = steps

    def on_train_batch_start(self, *_: Any) -> None:
        self.clock.begin_step()

    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, index: int) -> None:
        self.clock.end_step(len(batch[0]))
        if self.clock.steps == self.steps:
            self.clock.stop()


class ReferenceData(Dataset):
    """The samples of references/detection: the image and full-size masks, flipped at random."""

    def __init__(self, data: CocoData) -> None:
        self.data = data
        self.labels = {category: label for label, category in enumerate(data.category_ids, start=1)}
        self.transform = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.ToDtype(torch.float, scale=True)])

    def __len__(self) -> int:
        return len(self.data.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        from PIL import Image

        record = self.data.images[index]
        image = v2.functional.pil_to_tensor(Image.open(record.path).convert("RGB"))
        objects = [a for a in self.data.annotations(record.id) if not a["iscrowd"]]
        size = (record.height, record.width)
        boxes = torch.tensor([a["bbox"] for a in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(min=0, max=record.width)
        boxes[:, 1::2].clamp_(min=0, max=record.height)
        masks = [decode_mask(a) for a in objects]
        keep = (boxes[:, 3] > boxes[:, 1]) & (boxes[:, 2] > boxes[:, 0])
        target = {
            "boxes": BoundingBoxes(boxes[keep], format="XYXY", canvas_size=size),
            "masks": Mask(torch.as_tensor(np.array(masks).reshape(-1, *size), dtype=torch.uint8)[keep]),
            "labels": torch.tensor([self.labels[a["category_id"]] for a in objects], dtype=torch.int64)[keep],
        }
        transformed: tuple[torch.Tensor, dict[str, torch.Tensor]] = self.transform(image, target)
        return transformed


class GroupedBatches(BatchSampler):
    """Batches of images of like aspect ratio, as references/detection/group_by_aspect_ratio.py makes them (k = 3)."""

    def __init__(self, data: CocoData, batch: int, generator: torch.Generator) -> None:
        edges = [2 ** (exponent / 3) for exponent in range(-3, 4)]
        self.groups = [sum(i.width / i.height > edge for edge in edges) for i in data.images]
        self.batch = batch
        self.order = RandomSampler(data.images, generator=generator)

    def __len__(self) -> int:
        return len(self.groups) // self.batch

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[int, list[int]] = {}
        for index in self.order:
            group = waiting.setdefault(self.groups[index], [])
            group.append(index)
            if len(group) == self.batch:
                yield waiting.pop(self.groups[index])
        rest = [index for group in waiting.values() for index in group]
        for start in range(0, len(rest) - self.batch + 1, self.batch):
            yield rest[start : start + self.batch]


def collate(samples: list[Any]) -> tuple[Any, ...]:
    """The arguments of torchvision's references."""
    return tuple(zip(*samples, strict=True))


def run_reference(parts: ModelConfig, data: CocoData, config: TrainConfig, options: argparse.Namespace) -> Clock:
    """Torchvision's `train_one_epoch`, repeated until there are enough steps."""
    device = pick_device(options.device)
    model: MaskRCNN = start_fresh(parts, data, 0, False, None).model.to(device).train()
    side = min(parts.image_size_hw), max(parts.image_size_hw)
    model.transform = GeneralizedRCNNTransform(*side, list(IMAGENET_MEAN), list(IMAGENET_STD))
    model.roi_heads.fg_bg_sampler.batch_size_per_image = config.rois
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0025, momentum=0.9, weight_decay=1e-4)
    batches = GroupedBatches(data, config.batch, torch.Generator().manual_seed(0))
    loader = DataLoader(ReferenceData(data), batch_sampler=batches, num_workers=config.workers, collate_fn=collate)
    mixed = MIXED.get(lightning_precision(config.precision, device))
    scaler = torch.amp.GradScaler(device.type, enabled=mixed is torch.float16)
    clock = Clock(device)
    while clock.steps < options.steps:
        for images, targets in loader:
            clock.begin_step()
            images = [image.to(device) for image in images]
            targets = [{k: v.to(device) for k, v in target.items()} for target in targets]
            with torch.autocast(device.type, mixed, enabled=mixed is not None):
                losses = model(images, targets)
                total = sum(losses.values())
            if not math.isfinite(total.item()):
                raise SystemExit(f"loss is {total.item()}")
            optimizer.zero_grad()
            scaler.scale(total).backward()
            scaler.step(optimizer)
            scaler.update()
            # The reference's MetricLogger reads the losses in each step, too.
            {name: value.item() for name, value in losses.items()}
            clock.end_step(len(images))
            if clock.steps == options.steps:
                clock.stop()
                break
    return clock


def run_ours(parts: ModelConfig, data: CocoData, config: TrainConfig, options: argparse.Namespace) -> Clock:
    """Run `train` for as many epochs as the steps need."""
    clock = Clock(pick_device(options.device))
    epochs = math.ceil(options.steps * config.batch / (len(data.images) // config.batch * config.batch))
    checkpoint = start_fresh(parts, data, 0, False, None)
    with tempfile.TemporaryDirectory() as folder:
        train(
            checkpoint, data, folder, replace(config, epochs=epochs),
            device=options.device, callbacks=(StepTimes(clock, options.steps),),
        )  # fmt: skip
    return clock


def table(clocks: dict[str, list[Clock]]) -> list[str]:
    """Median of the turns of each loop."""
    lines = ["| loop | images/s | waits for data | peak GiB of GPU | speed-up |", "|---|---:|---:|---:|---:|"]
    base = statistics.median(clock.rate for clock in clocks["torchvision"])
    for name, turns in clocks.items():
        rate = statistics.median(clock.rate for clock in turns)
        waits = statistics.median(clock.waited / clock.seconds for clock in turns)
        gib = max(clock.gib for clock in turns)
        memory = "-" if math.isnan(gib) else f"{gib:.2f}"
        lines.append(f"| {name} | {rate:.2f} | {waits:.1%} | {memory} | {rate / base:.2f}x |")
    return lines


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    parts = preset(options.model).updated(
        backbone=options.backbone, image_size_hw=options.imgsz and (options.imgsz, options.imgsz)
    )
    data = load(options.data, "train")
    wanted = min(len(data.images), options.steps * options.batch)
    data = replace(data, images=data.images[:wanted])
    config = TrainConfig(
        batch=options.batch, rois=options.rois, workers=options.workers, precision=options.precision, lr=0.0025,
        eval_every=10**6, compile=options.compile, channels_last=options.channels_last,
    )  # fmt: skip
    loops = {"torchvision": run_reference, "edge-mrcnn": run_ours}
    clocks: dict[str, list[Clock]] = {name: [] for name in loops}
    for _ in range(options.rounds):
        for name, run in loops.items():
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            clocks[name].append(run(parts, data, config, options))
    device = pick_device(options.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {options.threads} threads"
    print(
        f"{options.model} ({parts.backbone}), {parts.image_size_hw}, batch {options.batch}, {options.rois} regions, "
        f"{lightning_precision(config.precision, device)}, {options.workers} workers, {where}"
    )
    print("\n".join(table(clocks)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="COCO JSON or folder")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--backbone")
    parser.add_argument("--imgsz", type=int)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rois", type=int, default=TrainConfig().rois)
    parser.add_argument("--steps", type=int, default=40, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--precision", choices=["auto", "32", "bf16", "16"], default="auto")
    parser.add_argument("--compile", action="store_true", help="our backbone and pyramid")
    parser.add_argument("--channels-last", action="store_true", help="our feature maps")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    main()
