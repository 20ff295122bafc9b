"""The systemd unit of a camera: started at boot, restarted when it ends or hangs, allowed no more than it needs.

Secrets are not in it, since every user can read units: it names a configuration file that its owner alone can read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtimes.home import user_folder

WATCHDOG_S = 60
"""Seconds without a processed frame, and a little more, after which systemd restarts the service."""
START_S = 180
"""Seconds until the first result: a slow board needs a minute to load a model."""
BUILD_S = 1800
"""The same where TensorRT builds an engine first, which it keeps for the next start."""
STOP_S = 10
"""Seconds that the end may take; it takes 3."""

HARDENING = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
UMask=0077
"""
"""What the manager of a user can enforce without taking the groups away that cameras need."""
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
"""What only the manager of the system can enforce."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One camera as a service."""

    name: str
    """What the user calls it; the unit is "edge-mrcnn-NAME"."""
    command: Sequence[str]
    """What is started: program and arguments."""
    folder: Path
    """Where it runs; relative paths in the configuration begin there."""
    environment: Path
    """File of environment variables, which may be absent."""
    is_system: bool
    """Whether it belongs to the machine instead of a user."""
    user: str = ""
    """Under whom a service of the machine runs."""
    groups: Sequence[str] = ()
    """Groups of the machine that may use cameras and accelerators."""
    writable: Sequence[Path] = ()
    """Folders that a service of the machine may write to."""
    start_s: int = START_S
    """Seconds until the first result, after which systemd starts it again."""

    @property
    def file_name(self) -> str:
        """Name of the unit."""
        return f"edge-mrcnn-{self.name}.service"

    def render(self) -> str:
        """The text of the unit."""
        target = "multi-user.target" if self.is_system else "default.target"
        # The manager of a user knows no network; the loop waits for its sources itself.
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
    """A text in which systemd sees no specifier."""
    return text.replace("%", "%%")


def quote(text: str) -> str:
    """One word of a command line of systemd, whatever it holds."""
    escaped = escape(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"' if escaped != text or not text or any(c in text for c in " '\t;") else text


def unit_folder(*, is_system: bool) -> Path:
    """Where systemd looks for units."""
    return Path("/etc/systemd/system") if is_system else _config_home() / "systemd" / "user"


def config_folder(*, is_system: bool) -> Path:
    """Where the configuration of services is kept."""
    return Path("/etc/edge-mrcnn") if is_system else _config_home() / "edge-mrcnn"


def _config_home() -> Path:
    return user_folder("XDG_CONFIG_HOME", ".config")
