"""The systemd unit of a camera: it starts at boot, restarts when it ends or hangs, and has minimal permissions.

Secrets are not in the unit, because every user can read units. It names a configuration file that only its owner can
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtimes.home import user_folder

WATCHDOG_S = 60
"""Seconds without a processed frame after which systemd restarts the service, with a margin."""
START_S = 180
"""Seconds until the first result; a slow board needs a minute to load a model."""
BUILD_S = 1800
"""The same if TensorRT first builds an engine, which is kept for the next start."""
STOP_S = 10
"""Maximum seconds for the service to stop; it needs 3."""

HARDENING = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
UMask=0077
"""
"""Hardening that a user manager can apply without removing the groups that cameras need."""
SYSTEM_HARDENING = """\
CapabilityBoundingSet=
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RestrictNamespaces=yes
"""
"""Hardening that only the system manager can apply."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One camera as a service."""

    name: str
    """Name that the user gave; the unit is "edge-mrcnn-NAME"."""
    command: Sequence[str]
    """Command: program and arguments."""
    folder: Path
    """Working directory; relative paths in the configuration start there."""
    environment: Path
    """File with environment variables; it may be missing."""
    is_system: bool
    """Whether it is a system service instead of a user service."""
    user: str = ""
    """User that runs a system service."""
    groups: Sequence[str] = ()
    """Groups for access to cameras and accelerators."""
    writable: Sequence[Path] = ()
    """Folders that a system service may write to."""
    start_s: int = START_S
    """Seconds until the first result, after which systemd restarts the service."""

    @property
    def file_name(self) -> str:
        """Name of the unit."""
        return f"edge-mrcnn-{self.name}.service"

    def render(self) -> str:
        """The text of the unit."""
        target = "multi-user.target" if self.is_system else "default.target"
        # A user manager cannot wait for the network; the loop waits for its sources itself.
        network = "Wants=network-online.target\nAfter=network-online.target\n" if self.is_system else ""
        return f"""\
[Unit]
Description=edge-mrcnn {self.name}
{network}StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={" ".join(map(quote, self.command))}
WorkingDirectory={escape(str(self.folder))}
EnvironmentFile=-{escape(str(self.environment))}
Restart=always
RestartSec=5
RestartPreventExitStatus=2
WatchdogSec={WATCHDOG_S}
CacheDirectory=edge-mrcnn
TimeoutStartSec={self.start_s}
TimeoutStopSec={STOP_S}
{HARDENING}{self._render_system()}
[Install]
WantedBy={target}
"""

    def _render_system(self) -> str:
        if not self.is_system:
            return ""
        paths = " ".join(quote(f"-{path}") for path in self.writable)
        groups = f"SupplementaryGroups={' '.join(self.groups)}\n" if self.groups else ""
        return f"User={self.user}\n{groups}{SYSTEM_HARDENING}ReadWritePaths={paths}\n"


def escape(text: str) -> str:
    """A text with systemd's specifiers escaped."""
    return text.replace("%", "%%")


def quote(text: str) -> str:
    """A quoted word of a systemd command line."""
    escaped = escape(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"' if escaped != text or not text or any(c in text for c in " '\t;") else text


def unit_folder(*, is_system: bool) -> Path:
    """Folder of systemd units."""
    return Path("/etc/systemd/system") if is_system else _config_home() / "systemd" / "user"


def config_folder(*, is_system: bool) -> Path:
    """Folder of the services' configuration files."""
    return Path("/etc/edge-mrcnn") if is_system else _config_home() / "edge-mrcnn"


def _config_home() -> Path:
    return user_folder("XDG_CONFIG_HOME", ".config")
