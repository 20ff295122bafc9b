"""Open what a report compares: artefacts in their own runtime, checkpoints in torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import runtimes
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.evaluation.evaluate import Evaluation, evaluate
from edge_mrcnn.measure.files import is_checkpoint
from runtimes import ModelCard, Runtime
from runtimes.errors import MissingExtraError, ModelFileError, UnknownFormatError
from runtimes.progress import Progress, silent
from runtimes.shipped import model_file
from runtimes.tiling import tile_model

Layers = dict[str, tuple[int, int]]
"""Part of the net to its layers that compute in integers, and in floating point."""


@dataclass(frozen=True)
class Model:
    """An opened model and the file it came from."""

    path: Path
    runtime: Runtime
    device: str = "cpu"
    """ "cpu", or the name of the accelerator it runs on."""
    runs_as: dict[str, str] = field(default_factory=dict)
    """What is known of how it runs: threads, precision in use."""

    @property
    def card(self) -> ModelCard:
        """What the file says of itself."""
        return self.runtime.card

    def evaluate(self, data: CocoData, *, limit: int | None = None, progress: Progress = silent) -> Evaluation:
        """Run it on a data set; see `edge_mrcnn.evaluation.evaluate.evaluate`."""
        return evaluate(self.runtime, data, limit=limit, progress=progress)


def open_model(
    path: str | Path, *, device: str = "auto", threads: int | None = None, tile: int | None = None, overlap: float = 0.2
) -> Model:
    """Open a model file or a checkpoint.

    Args:
        path: .onnx, .xml, .tflite, or a checkpoint, which needs torch.
        device: Of a checkpoint: "auto", "cpu", "cuda" or "cuda:N". Exported files run on the CPU.
        threads: CPU threads; each runtime's own choice if None.
        tile: Side of the tiles in which large pictures are looked at too, in pixels; None for none.
        overlap: Least share of a tile that the next one sees too.

    Raises:
        MissingFileError, UnknownFormatError, ModelFileError: As `runtimes.load` does.
        MissingExtraError: If the runtime, or torch, is not installed.
        UsageError: If the device is not there.
    """
    model = _open(model_file(path), device, threads)
    if tile is None:
        return model
    tiled = tile_model(model.runtime, tile, overlap)
    return replace(model, runtime=tiled, runs_as={**model.runs_as, "tiles": tiled.describe()["tiles"]})


def _open(path: Path, device: str, threads: int | None) -> Model:
    asked = {"threads": "the runtime's choice" if threads is None else str(threads)}
    if is_checkpoint(path):
        return _open_checkpoint(path, device, threads, asked)
    runtime = runtimes.load(path, threads=threads)
    return Model(path, runtime, runs_as={**asked, **runtime.describe()})


def count_macs(path: Path) -> int | None:
    """Multiply-accumulates of one image with all proposals and detections present; None for all but checkpoints."""
    if not is_checkpoint(path) or not path.is_file():
        return None
    from edge_mrcnn.export.cost import measure_cost
    from edge_mrcnn.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    return measure_cost(checkpoint.model, checkpoint.config).macs


def count_layers(path: Path) -> Layers:
    """How each part of an exported model computes; empty for a checkpoint, or if what reads the file is missing."""
    from edge_mrcnn.inspection import list_operators

    try:
        learned = [operator for operator in list_operators(path) if operator.is_learned]
    except (MissingExtraError, ModelFileError, UnknownFormatError):
        return {}
    counts = Counter((operator.part, operator.is_integer) for operator in learned)
    return {part: (counts[part, True], counts[part, False]) for part in dict.fromkeys(part for part, _ in counts)}


def require_torch(path: Path) -> None:
    """See to it that a checkpoint can be opened here.

    Raises:
        MissingExtraError: If torch is not installed.
    """
    try:
        import torch  # noqa: F401, TID251  only a checkpoint needs it
        import torchvision  # noqa: F401, TID251
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{path}: a checkpoint needs torch: pip install 'edge-mrcnn[train]', or compare with what "
            "`edge-mrcnn report reference` wrote where torch is"
        ) from error


def _open_checkpoint(path: Path, device: str, threads: int | None, asked: dict[str, str]) -> Model:
    require_torch(path)
    import torch  # noqa: TID251  only a checkpoint needs it

    from edge_mrcnn.reference import load_reference

    if threads is not None:
        torch.set_num_threads(threads)
    runtime = load_reference(path, device=device)
    if runtime.device.type == "cuda":
        # Convolutions are TF32 by default, which is no reference; torch's types do not know the switch.
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        return Model(path, runtime, device=torch.cuda.get_device_name(runtime.device), runs_as={"precision": "f32"})
    return Model(path, runtime, runs_as={**asked, "precision": "f32"})
