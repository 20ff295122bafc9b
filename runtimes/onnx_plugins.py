"""Execution providers that are separate packages, loaded by a plain onnxruntime.

Each package provides the path of its library (`get_library_path`) and the name of its provider (`get_ep_name`).
https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries/
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import onnxruntime

from runtimes.errors import MissingExtraError, UsageError, one_line
from runtimes.formats.onnx_format import PLUGINS


def find_devices(device: str) -> list[Any]:
    """The device of a plug-in, as an object of onnxruntime.

    Args:
        device: A key of `PLUGINS`, with an optional kind of device if not the plug-in's first: "openvino:gpu".

    Returns:
        One `OrtEpDevice`.

    Raises:
        MissingExtraError: If the plug-in is not installed.
        UsageError: If this onnxruntime is too old for plug-ins, or the plug-in finds no such device.
    """
    name, _, kind = device.partition(":")
    provider = _register(name)
    seen = [one for one in onnxruntime.get_ep_devices() if one.ep_name == provider]
    kinds = [one.device.type.name.lower() for one in seen]
    wanted = kind or next(iter(kinds), "")
    if wanted not in kinds:
        raise UsageError(
            f"device {device}: not found here; {provider} finds {', '.join(dict.fromkeys(kinds)) or 'no device'}"
        )
    return [seen[kinds.index(wanted)]]


@cache
def _register(name: str) -> str:
    """Load the library of a plug-in, once per process; returns the name of its provider."""
    plugin = PLUGINS[name]
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise UsageError(f"device {name}: plug-ins need onnxruntime 1.23 or newer, got {onnxruntime.__version__}")
    try:
        module = import_module(plugin.module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"device {name} needs its plug-in: pip install {plugin.package}") from error
    try:
        onnxruntime.register_execution_provider_library(f"edge-mrcnn {name}", module.get_library_path())
    except Exception as error:  # a missing driver, or another version of onnxruntime
        raise UsageError(f"device {name}: {plugin.package} cannot be loaded here: {one_line(error, 300)}") from error
    return str(module.get_ep_name())
