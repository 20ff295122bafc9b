"""Training from COCO data to `best.pt`; Lightning handles the loop, the devices and the precision."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy

from edge_mrcnn.config import TrainConfig
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.data.dataset import InstanceDataset
from edge_mrcnn.data.loader import train_loader
from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.model.mask_rcnn import PAD_RGB
from edge_mrcnn.reference import pick_device
from edge_mrcnn.train.callbacks import BestCheckpoint, MovingAverage
from edge_mrcnn.train.checks import check_data, check_resume, hash_data
from edge_mrcnn.train.compiling import compile_backbone
from edge_mrcnn.train.curves import CurvesPicture
from edge_mrcnn.train.distillation import Teacher
from edge_mrcnn.train.lightning_setup import plain_interrupts, plain_memory_errors, quiet_lightning
from edge_mrcnn.train.loggers import expect_logger, make_loggers
from edge_mrcnn.train.precision import lightning_precision
from edge_mrcnn.train.progress import EpochLines, MetricsFile
from edge_mrcnn.train.start import keep_frozen
from edge_mrcnn.train.task import MaskRCNNTask
from runtimes.errors import UsageError
from runtimes.progress import Progress, silent

RESUME_FILE = "last.ckpt"


def train(
    checkpoint: Checkpoint,
    data: CocoData,
    output: str | Path,
    config: TrainConfig,
    *,
    validation: CocoData | None = None,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    resume: bool = False,
    teacher: Checkpoint | None = None,
    callbacks: tuple[Callback, ...] = (),
    progress: Progress = silent,
) -> Path:
    """Train a model and write `best.pt`, `last.pt`, `metrics.csv`, `curves.png`, `samples/` and a TensorBoard log.

    Args:
        checkpoint: Model to start from, with its classes.
        data: Training images.
        output: Output folder.
        config: Settings of the training.
        validation: Images for AP; without them the last weights are saved as the best.
        device: "auto", "cpu", "cuda" or "cuda:N".
        devices: Number of processes per node, one device each.
        nodes: Number of machines, started by torchrun or SLURM as documented by Lightning.
        resume: Continue from `last.ckpt` in the folder: same order, same views, same optimizer state.
        teacher: A trained model of the same classes for distillation.
        callbacks: Further Lightning callbacks.
        progress: Called with the number of images checked before the first step.

    Returns:
        The path of `best.pt`.

    Raises:
        DataError: If the data has no object to train on, or the loss is not finite.
        ModelFileError: If the resume file cannot be read.
        UsageError: If the number of epochs is 0, a device or resume file is missing, the teacher does not fit the
            model, or the memory is too small for the batch.
        KeyboardInterrupt: At Ctrl-C or SIGTERM, after everything is closed; the last whole epoch can be resumed.
    """
    output = Path(output)
    config = keep_frozen(config, checkpoint)
    _check_settings(config, device)
    validation = check_data(checkpoint, data, validation, progress=progress)
    if validation is not None:
        validation = validation.front(config.eval_limit)
    steps = max(1, len(data.images) // (config.batch * devices * nodes))
    if config.max_steps:
        config = replace(config, epochs=math.ceil(config.max_steps / steps))
    tutor = Teacher(teacher, checkpoint) if teacher else None
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    dataset = InstanceDataset(data, checkpoint.config.image_size_hw, PAD_RGB, config)
    average = MovingAverage(checkpoint.model, config.ema) if config.ema else None
    best = BestCheckpoint(
        output, _with_provenance(checkpoint, data, config, tutor), validation, average,
        every=config.eval_every, limit=config.eval_limit, patience=config.patience,
    )  # fmt: skip
    task = MaskRCNNTask(checkpoint.model, config, config.max_steps or steps * config.epochs, teacher=tutor)
    task.data_sha256 = hash_data(data)
    done = check_resume(output / RESUME_FILE, task, checkpoint.classes) if resume else 0
    if config.compile:
        compile_backbone(checkpoint.model, checkpoint.config.image_size_hw, pick_device(device))
    with quiet_lightning(), plain_interrupts(), plain_memory_errors(config, checkpoint.config.image_size_hw):
        loggers = make_loggers(output, config, _facts(checkpoint, data, config))
        trainer = _trainer(loggers, config, device, devices, nodes, _callbacks(output, steps, average, best, callbacks))
        loader = train_loader(dataset, rank=trainer.global_rank, world_size=trainer.world_size, epoch=done)
        trainer.fit(task, loader, ckpt_path=output / RESUME_FILE if resume else None, weights_only=True)
    return output / "best.pt"


def _check_settings(config: TrainConfig, device: str) -> None:
    expect_logger(config.logger)
    if config.epochs < 1:
        raise UsageError(f"epochs {config.epochs}: expected at least 1 to train")
    if config.channels_last and pick_device(device).type != "cuda":
        raise UsageError("--channels-last is for CUDA devices: on a CPU, it makes torch 2.14 corrupt memory")


def _callbacks(
    output: Path, steps: int, average: MovingAverage | None, best: BestCheckpoint, more: tuple[Callback, ...]
) -> list[Callback]:
    """In the order of execution: the average is updated after a step before others use it."""
    resume = ModelCheckpoint(output, filename=Path(RESUME_FILE).stem, enable_version_counter=False)
    return [
        *([average] if average else []),
        best,
        *more,
        EpochLines(steps),
        MetricsFile(output / "metrics.csv"),
        CurvesPicture(output / "metrics.csv"),
        resume,
    ]


def _trainer(
    loggers: list[Logger], config: TrainConfig, device: str, devices: int, nodes: int, callbacks: list[Callback]
) -> lightning.Trainer:
    where = pick_device(device)
    on_cuda = where.type == "cuda"
    many = devices * nodes > 1
    return lightning.Trainer(
        accelerator="gpu" if on_cuda else "cpu",
        devices=[where.index] if on_cuda and where.index is not None and not many else devices,
        num_nodes=nodes,
        # Every trained parameter gets a gradient in every step, so DDP need not search for unused ones.
        strategy=DDPStrategy(find_unused_parameters=False) if many else "auto",
        precision=lightning_precision(config.precision, where),
        max_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        gradient_clip_val=config.clip_norm or None,
        sync_batchnorm=many and on_cuda,  # also with --freeze-norm, which does not freeze the norms of the pyramid
        logger=loggers,
        log_every_n_steps=10,
        callbacks=callbacks,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _facts(checkpoint: Checkpoint, data: CocoData, config: TrainConfig) -> dict[str, object]:
    """Facts that a logger records once: settings, model and data."""
    return {
        **asdict(config),
        "model": checkpoint.config.name,
        "backbone": checkpoint.config.backbone,
        "image_size_hw": checkpoint.config.image_size_hw,
        "data": data.path.name,
        "images": len(data.images),
    }


def _with_provenance(
    checkpoint: Checkpoint, data: CocoData, config: TrainConfig, teacher: Teacher | None
) -> Checkpoint:
    record = {
        **checkpoint.training,
        "data": data.path.name,
        "images": len(data.images),
        **({"teacher": teacher.name} if teacher else {}),
        "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()},
    }
    return replace(checkpoint, training=record)
