"""The extra that installs a missing package, for one clear line in place of a traceback."""

from __future__ import annotations

from importlib.util import find_spec

from runtimes.errors import one_line
from runtimes.formats import FORMATS

EXTRAS = {
    "train": ("torch", "torchvision", "lightning", "timm", "tensorboard", "rich", "matplotlib"),
    "prune": ("torch_pruning",),
    "export": ("onnx", "onnxscript", "nncf", "litert_torch", "ai_edge_quantizer"),
    "report": ("pycocotools", "jinja2", "yaml"),
    "stream": ("av",),
    "live": ("paho",),
    **{format_.extra: tuple(name.replace("-", "_") for name in format_.packages) for format_ in FORMATS.values()},
    "demo": ("skimage",),
}
"""Extra of our package -> top-level modules that it installs."""

OF_LINUX = ("grp", "pwd", "fcntl", "resource")
"""Standard library modules that do not exist on Windows."""

VERBS = {"prune": "prune", "export": "export", "quantize": "export", "demo": "all"}
"""Verb -> the extra with everything it needs, if that is more than the extra of the first missing package."""


def explain_missing(error: ModuleNotFoundError, verb: str) -> str | None:
    """What to install, or what is missing here, in one line; None if no extra installs the module."""
    module = (error.name or "").partition(".")[0]
    if module in OF_LINUX:
        return f"{verb or 'this'} needs Linux: this Python has no module named {module}"
    extra = next((name for name, modules in EXTRAS.items() if module in modules), None)
    if extra is None:
        return None
    return (
        f"{verb or 'this'} needs {module}, which is not installed: pip install 'edge-mrcnn[{VERBS.get(verb, extra)}]'"
    )


def expect_installed(*modules: str) -> None:
    """Raise ModuleNotFoundError now for a package that is needed later, instead of after an hour of work."""
    for module in modules:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def explain_broken(error: ImportError) -> str | None:
    """Why an installed package cannot be imported; None if it is one of ours."""
    module = (error.name or "").partition(".")[0]
    if module in ("edge_mrcnn", "quantize", "runtimes"):
        return None
    what = f"{module}: " if module else ""
    reason = f"is installed but cannot be imported: {one_line(error)}"
    return f"{what}{reason}; `edge-mrcnn doctor` checks all packages"
