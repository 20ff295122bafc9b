"""Open what a report compares: artefacts in their own runtime, checkpoints in torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import runtimes
from runtimes import Runtime
from runtimes.errors import MissingExtraError


@dataclass(frozen=True)
class Model:
    """An opened model and the file it came from."""

    path: Path
    runtime: Runtime
    device: str = "cpu"
    """ "cpu", or the name of the accelerator it runs on."""
    runs_as: dict[str, str] = field(default_factory=dict)
    """What is known of how it runs: threads, precision in use."""


def open_model(path: str | Path, *, device: str = "auto", threads: int | None = None) -> Model:
    """Open a model file or a checkpoint.

    Args:
        path: .onnx, .xml, .tflite, or .pt, which needs torch.
        device: Of a checkpoint: "auto", "cpu", "cuda" or "cuda:N". Exported files run on the CPU.
        threads: CPU threads; each runtime's own choice if None.

    Raises:
        MissingFileError, UnknownFormatError, ModelFileError: As `runtimes.load` does.
        MissingExtraError: If the runtime, or torch, is not installed.
        UsageError: If the device is not there.
    """
    path = Path(path)
    asked = {"threads": "the runtime's choice" if threads is None else str(threads)}
    if path.suffix == ".pt":
        return _open_checkpoint(path, device, threads, asked)
    runtime = runtimes.load(path, threads=threads)
    return Model(path, runtime, runs_as={**asked, **runtime.describe()})


def _open_checkpoint(path: Path, device: str, threads: int | None, asked: dict[str, str]) -> Model:
    try:
        import torch  # noqa: TID251  only a checkpoint needs it

        from edge_mrcnn.reference import load_reference
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{path}: a checkpoint needs torch: pip install 'edge-mrcnn[train]'") from error
    if threads is not None:
        torch.set_num_threads(threads)
    runtime = load_reference(path, device=device)
    if runtime.device.type == "cuda":
        return Model(path, runtime, device=torch.cuda.get_device_name(runtime.device), runs_as={"precision": "f32"})
    return Model(path, runtime, runs_as={**asked, "precision": "f32"})
