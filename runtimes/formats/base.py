"""Description of a format of model files, without its SDK."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from runtimes.errors import UsageError
from runtimes.model_card import CARD_KEY

DIGEST_LENGTH = 64
"""Characters of a SHA-256 in hexadecimal."""
SEAL_KEY = f"{CARD_KEY}_sha256"
"""Name of every seal."""


class SealFrame(NamedTuple):
    """The bytes around the hexadecimal digest of a seal, see `runtimes.seal`."""

    before: bytes
    after: bytes = b""

    @property
    def length(self) -> int:
        """Bytes of a whole seal."""
        return len(self.before) + DIGEST_LENGTH + len(self.after)

    def wrap(self, digest: str) -> bytes:
        """The seal with this digest."""
        return self.before + digest.encode() + self.after

    def is_in(self, data: bytes) -> bool:
        """Whether the end of a file is such a seal."""
        return data[-self.length :].startswith(self.before) and data.endswith(self.after)

    @property
    def blank(self) -> bytes:
        """A placeholder with the length of a seal."""
        return self.wrap("0" * DIGEST_LENGTH)


ZIP_SEAL = SealFrame(f"{SEAL_KEY} ".encode())
"""Of a file that ends in a ZIP archive: the archive's comment."""


class Notes(NamedTuple):
    """Data that a model file contains besides the model."""

    card: str | None
    """The model card as JSON; None if there is none."""
    golden: bytes | None = None
    """Golden tensors, see `runtimes.golden`; None if there are none."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `runtimes.load` for one format; each format has its own class."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The fields, in their order."""
        return tuple(field.name for field in fields(cls))


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format of model files and the runtime that runs it."""

    name: str
    """Its name, and the key of every table of jobs: "onnx"."""
    title: str
    """The runtime's own name: "ONNX Runtime"."""
    suffix: str
    """Suffix of the model file, such as ".onnx"."""
    companions: tuple[str, ...] = ()
    """Suffixes of its companion files, which have the same stem."""
    packages: tuple[str, ...]
    """Packages that can run it, preferred one first; one is enough."""
    extra: str
    """pip extra that installs the first of them."""
    devices: tuple[str, ...] = ("cpu",)
    """Devices that can run it, by public names; the first is the default."""
    device_groups: tuple[str, ...] = ()
    """Names for groups of devices. If there are any, details may follow a name: "gpu.1", "auto:gpu,cpu"."""
    plugins: tuple[str, ...] = ()
    """Devices of plug-ins; a kind may follow: "openvino:gpu"."""
    options: type[Options]
    """Class of its options."""
    backend: str
    """Module that imports the SDK and has `open_model(file, threads=, device=, options=)`."""
    seal: SealFrame
    """Format of its seal."""
    read_notes: Callable[[bytes], Notes]
    """Function from the content of a file to its notes. Raises any exception for a damaged file."""
    write_notes: Callable[[bytes, Notes], bytes]
    """Function from the content of a file to the content with other notes, without its new seal."""

    def check_device(self, device: str | None) -> str:
        """A device by its public name, in lower case; the default if None.

        Raises:
            UsageError: If this format's runtime has no such device.
        """
        if device is None:
            return self.devices[0]
        name = device.lower() if isinstance(device, str) else ""
        plugin, _, kind = name.partition(":")
        if plugin in self.plugins and kind in ("", "cpu", "gpu", "npu"):
            return name
        family = re.split(r"[.:]", name)[0] if self.device_groups else name
        if family not in (*self.devices, *self.device_groups):
            known = ", ".join((*self.devices, *self.plugins))
            raise UsageError(f"device {device!r}: {self.suffix} files run with {self.title}, on {known}")
        return name

    def make_options(self, given: Options | None, single: dict[str, Any]) -> Options:
        """The options with some fields changed; the defaults if None.

        Raises:
            UsageError: If the options are of another format, or a field is unknown or has an invalid value.
        """
        if given is not None and not isinstance(given, self.options):
            raise UsageError(
                f"options: {self.suffix} files take {self.options.__name__}(...), got {type(given).__name__}"
            )
        base = {} if given is None else {name: getattr(given, name) for name in given.names()}
        return self.options(**{**base, **single})
