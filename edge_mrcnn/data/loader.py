"""The training loader: each epoch has its own order and its own views, the same in every run with the same seed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from edge_mrcnn.data.dataset import InstanceDataset, Sample, collate


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order that depends only on seed and epoch; each process gets a share."""

    def __init__(self, length: int, seed: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed * 100_003 + self.epoch))
        mine = order[self.rank : len(self) * self.world_size : self.world_size]
        return ((self.epoch, int(index)) for index in mine)


class _Views(Dataset[Sample]):
    """Adapter from (epoch, index) to a sample."""

    def __init__(self, dataset: InstanceDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        return self.dataset.view(*key)


def train_loader(dataset: InstanceDataset, *, rank: int = 0, world_size: int = 1, epoch: int = 0) -> DataLoader[Sample]:
    """Batches for one process of a training.

    Args:
        dataset: Data set whose config has batch size, workers and seed.
        rank: Rank of this process among `world_size`.
        world_size: Number of processes.
        epoch: The first epoch. Lightning sets the sampler's epoch only after worker processes have started to prepare
            batches.
    """
    config = dataset.config
    sampler = EpochSampler(len(dataset), config.seed, rank=rank, world_size=world_size)
    sampler.set_epoch(epoch)
    workers = min(config.workers, usable_cores())
    return DataLoader(
        _Views(dataset),
        batch_size=min(config.batch, len(sampler)),
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        drop_last=True,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=_start_method() if workers else None,
        generator=torch.Generator(),  # Iterating must not change the global generator, which the losses sample from.
    )


def _start_method() -> str:
    """Start method of workers: never fork, because this process may have running threads; Windows has only spawn."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
