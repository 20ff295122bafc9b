"""What a format of model files is, told without its SDK."""

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
"""What every seal is named."""


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
        """Whether a file ends in such a seal."""
        return data[-self.length :].startswith(self.before) and data.endswith(self.after)

    @property
    def blank(self) -> bytes:
        """A seal that holds the place of one."""
        return self.wrap("0" * DIGEST_LENGTH)


ZIP_SEAL = SealFrame(f"{SEAL_KEY} ".encode())
"""Of a file that ends in a ZIP archive: the archive's comment."""


class Notes(NamedTuple):
    """What travels in a model file beside the model."""

    card: str | None
    """The model card as JSON; None where there is none."""
    golden: bytes | None = None
    """Golden tensors, see `runtimes.golden`; None where there are none."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `runtimes.load` takes for one format alone; each format has its own."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The fields, in their order."""
        return tuple(field.name for field in fields(cls))


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format of model files and the runtime that runs it."""

    name: str
    """What everybody calls it, and the key of every table of jobs: "onnx"."""
    title: str
    """The runtime's own name: "ONNX Runtime"."""
    suffix: str
    """Of the file that is named, such as ".onnx"."""
    companions: tuple[str, ...] = ()
    """Suffixes of the files of the same stem that belong to it."""
    packages: tuple[str, ...]
    """Packages that may run it, best first; one is enough."""
    extra: str
    """pip extra that installs the first of them."""
    devices: tuple[str, ...] = ("cpu",)
    """Where it may run, by public names; the first is the default."""
    device_groups: tuple[str, ...] = ()
    """Names of several devices together. Where there are some, details may follow a name: "gpu.1", "auto:gpu,cpu"."""
    plugins: tuple[str, ...] = ()
    """Devices of plug-ins, behind which a kind may follow: "openvino:gpu"."""
    options: type[Options]
    """Options that it alone has."""
    backend: str
    """Module that imports the SDK and has `open_model(file, threads=, device=, options=)`."""
    seal: SealFrame
    """What its seal looks like."""
    read_notes: Callable[[bytes], Notes]
    """From the content of a file to its notes. Raises anything at all where the file is damaged."""
    write_notes: Callable[[bytes, Notes], bytes]
    """From the content of a file to that with other notes, whose seal is still to be written."""

    def check_device(self, device: str | None) -> str:
        """A device by its public name, in lower case; the default if None.

        Raises:
            UsageError: If this format's runtime knows no such device.
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
            raise UsageError(f"device {device!r}: {self.suffix} files are run by {self.title}, on {known}")
        return name

    def make_options(self, given: Options | None, single: dict[str, Any]) -> Options:
        """The options with some fields changed; the defaults if None.

        Raises:
            UsageError: If they are of another format, or a field is not there or cannot have this value.
        """
        if given is not None and not isinstance(given, self.options):
            raise UsageError(
                f"options: {self.suffix} files take {self.options.__name__}(...), got {type(given).__name__}"
            )
        base = {} if given is None else {name: getattr(given, name) for name in given.names()}
        return self.options(**{**base, **single})
