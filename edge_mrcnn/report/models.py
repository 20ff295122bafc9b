"""Opening of the models in a report: exported models in their own runtime, checkpoints in torch."""

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
"""Part of the model -> number of its layers in INT8, and in float."""


@dataclass(frozen=True)
class Model:
    """An opened model and its file."""

    path: Path
    runtime: Runtime
    device: str = "cpu"
    """ "cpu", or the name of the accelerator it runs on."""
    runs_as: dict[str, str] = field(default_factory=dict)
    """How it runs: threads, effective precision."""

    @property
    def card(self) -> ModelCard:
        """The model card."""
        return self.runtime.card

    def evaluate(self, data: CocoData, *, limit: int | None = None, progress: Progress = silent) -> Evaluation:
        """Evaluate it on a data set; see `edge_mrcnn.evaluation.evaluate.evaluate`."""
        return evaluate(self.runtime, data, limit=limit, progress=progress)


def open_model(
    path: str | Path, *, device: str = "auto", threads: int | None = None, tile: int | None = None, overlap: float = 0.2
) -> Model:
    """Open a model file or a checkpoint.

    Args:
        path: .onnx, .xml, .tflite, or a checkpoint, which needs torch.
        device: Device of a checkpoint: "auto", "cpu", "cuda" or "cuda:N". Exported models run on the CPU.
        threads: CPU threads; each runtime's own choice if None.
        tile: Side of the tiles that large images are also divided into, in pixels; None for no tiles.
        overlap: Minimum overlap of neighbouring tiles, as a share of their side.

    Raises:
        MissingFileError, UnknownFormatError, ModelFileError: As `runtimes.load` does.
        MissingExtraError: If the runtime, or torch, is not installed.
        UsageError: If the device does not exist.
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
    """Multiply-accumulates of one image with the maximum number of proposals and detections; None except for
    checkpoints."""
    if not is_checkpoint(path) or not path.is_file():
        return None
    from edge_mrcnn.export.cost import measure_cost
    from edge_mrcnn.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    return measure_cost(checkpoint.model, checkpoint.config).macs


def count_layers(path: Path) -> Layers:
    """INT8 and float layers of each part of an exported model; empty for a checkpoint, or if the reading package is
    missing."""
    from edge_mrcnn.inspection import list_operators

    try:
        learned = [operator for operator in list_operators(path) if operator.is_learned]
    except (MissingExtraError, ModelFileError, UnknownFormatError):
        return {}
    counts = Counter((operator.part, operator.is_integer) for operator in learned)
    return {part: (counts[part, True], counts[part, False]) for part in dict.fromkeys(part for part, _ in counts)}


def require_torch(path: Path) -> None:
    """Check that a checkpoint can be opened here.

    Raises:
        MissingExtraError: If torch is not installed.
    """
    try:
        import torch  # noqa: F401, TID251  only a checkpoint needs it
        import torchvision  # noqa: F401, TID251
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{path}: a checkpoint needs torch: pip install 'edge-mrcnn[train]', or compare with a file of "
            "`edge-mrcnn report reference` from a machine with torch"
        ) from error


def _open_checkpoint(path: Path, device: str, threads: int | None, asked: dict[str, str]) -> Model:
    require_torch(path)
    import torch  # noqa: TID251  only a checkpoint needs it

    from edge_mrcnn.reference import load_reference

    if threads is not None:
        torch.set_num_threads(threads)
    runtime = load_reference(path, device=device)
    if runtime.device.type == "cuda":
        # Convolutions use TF32 by default, which is too inexact for a reference; torch's type stubs lack this switch.
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        return Model(path, runtime, device=torch.cuda.get_device_name(runtime.device), runs_as={"precision": "f32"})
    return Model(path, runtime, runs_as={**asked, "precision": "f32"})
