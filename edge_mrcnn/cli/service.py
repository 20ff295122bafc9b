"""`edge-mrcnn service`: a camera as a systemd service, which starts at boot and restarts when it hangs."""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from edge_mrcnn.cli import run
from edge_mrcnn.cli.config_file import find_options, read_config, write_config
from edge_mrcnn.live.unit import BUILD_S, START_S, Unit, config_folder, unit_folder
from runtimes.errors import MissingFileError, UsageError
from runtimes.redaction import find_secrets, hide, redact

GROUPS = ("video", "render")
"""Groups that own cameras and accelerators; those that the machine has are used."""
WRITTEN = ("save", "json", "coco")
"""Options of `run` that name output files."""
NAMED = ("model", "sources")
"""Options of `run` that a service must state: their defaults depend on which camera is connected at boot."""

name_option = click.option("--name", required=True, help="Name of the service: letters, digits and hyphens.")
system_option = click.option(
    "--system", "is_system", is_flag=True, help="Use a system service instead of a service of this user."
)


@click.group()
def command() -> None:
    """Run a camera as a systemd service: `service install --name cam1 -- run --model M --source S`."""


@command.command(context_settings={"ignore_unknown_options": True})
@name_option
@system_option
@click.option("--user", help="With --system: user that runs the service [default: the user who calls sudo].")
@click.option("--force", is_flag=True, help="Replace an existing service of this name.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def install(name: str, is_system: bool, user: str | None, force: bool, arguments: tuple[str, ...]) -> None:
    """Write the systemd unit of a camera, and a configuration file. The options of `run` follow a `--`:

    edge-mrcnn service install --name cam1 -- run --model best-int8.xml --source 0
    """
    check_name(name)
    if arguments[:1] != ("run",):
        raise UsageError(
            "expected a `run` command after --: edge-mrcnn service install --name cam1 -- run --model M --source S"
        )
    values = parse_run(arguments[1:])
    if values.get("overwrite"):
        raise UsageError(
            "--overwrite: a service restarts, and each start would erase the files of the last one; "
            "leave it out, then new files get numbers"
        )
    config, unit_path = config_path(name, is_system=is_system), unit_path_of(name, is_system=is_system)
    if unit_path.exists() and not force:
        raise UsageError(f"{unit_path} exists already; --force replaces it and its configuration")
    owner = expect_user(user or os.environ.get("SUDO_USER") or name_caller()) if is_system else ""
    unit = Unit(
        name=name, command=(sys.executable, "-m", "edge_mrcnn", "run", "--config", str(config)), folder=Path.cwd(),
        environment=config.with_suffix(".env"), is_system=is_system, user=owner, groups=find_groups(),
        writable=[Path.cwd(), *find_folders(values)],
        start_s=BUILD_S if str(values.get("device") or "").startswith("tensorrt") else START_S,
    )  # fmt: skip
    write_config(config, values, f"options of `edge-mrcnn run` for the service {unit.file_name}")
    if is_system:
        shutil.chown(config, owner)
    unit_path.parent.mkdir(parents=True, exist_ok=True)
    unit_path.write_text(unit.render(), encoding="utf-8")
    click.echo(f"wrote {config}\nwrote {unit_path}")
    explain(unit)


@command.command()
@name_option
@system_option
def show(name: str, is_system: bool) -> None:
    """Print the unit and its options, without secrets."""
    check_name(name)
    config, unit_path = config_path(name, is_system=is_system), unit_path_of(name, is_system=is_system)
    for path in (unit_path, config):
        text = read_installed(path, name)
        hide(*(secret for word in re.findall(r'"([^"]*)"', text) for secret in find_secrets(word)))
        text = re.sub(r'^(web-token\s*=\s*)"(?!env:|file:).*"', r'\1"***"', text, flags=re.MULTILINE)
        click.echo(f"# {path}\n{redact(text)}")
    click.echo(f"next: {systemctl(is_system)} status edge-mrcnn-{name}")


@command.command()
@name_option
@system_option
@click.option("--purge", is_flag=True, help="Also remove its configuration.")
def uninstall(name: str, is_system: bool, purge: bool) -> None:
    """Stop a service and remove its systemd unit."""
    check_name(name)
    unit_path, config = unit_path_of(name, is_system=is_system), config_path(name, is_system=is_system)
    read_installed(unit_path, name)
    if shutil.which("systemctl"):
        arguments = [*systemctl(is_system).split(), "disable", "--now", unit_path.name]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["systemctl failed"]
            click.echo(f"warning: the service could not be stopped: {reason[0]}", err=True)
    for path in (unit_path, *((config, config.with_suffix(".env")) if purge else ())):
        if path.exists():
            path.unlink()
            click.echo(f"removed {path}")
    click.echo(f"next: {systemctl(is_system)} daemon-reload")


def parse_run(arguments: Sequence[str]) -> dict[str, Any]:
    """The options of `run` as keys of a configuration file. Values such as env:NAME are not resolved, so secrets
    stay where they are.

    Raises:
        UsageError: If an option is unknown, or a required one is missing.
    """
    options = find_options(run.command)
    ctx = click.Context(run.command, info_name="run")
    given, rest, _ = run.command.make_parser(ctx).parse_args(list(arguments))
    if rest:
        raise UsageError(f"run {' '.join(rest)}: expected options only")
    # The service must not end if the camera is off at boot.
    named: dict[str, Any] = {"wait": True, **_read_given(given.pop("config", None)), **given}
    flags = {str(option.name): flag for flag, option in reversed(options.items())}
    missing = [flag for flag, option in options.items() if option.name in NAMED and option.name not in named]
    if missing:
        raise UsageError(f"run: expected --{missing[0]} after the --")
    return {flags[name]: to_toml(options[flags[name]], value) for name, value in named.items() if name in flags}


def _read_given(config: str | None) -> Mapping[str, Any]:
    return read_config(Path(config), run.command) if config else {}


def to_toml(option: click.Option, value: Any) -> Any:
    """A word of the command line as TOML: numbers stay numbers."""
    is_number = isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType))
    if not is_number or not isinstance(value, str):
        return list(value) if isinstance(value, (list, tuple)) else value
    return option.type.convert(value, option, None)


def check_name(name: str) -> None:
    """Raise UsageError unless a name can be part of a file name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}", name):
        raise UsageError(f"--name {name}: expected letters, digits and hyphens")


def config_path(name: str, *, is_system: bool) -> Path:
    """The configuration file of a service."""
    return config_folder(is_system=is_system) / f"{name}.toml"


def unit_path_of(name: str, *, is_system: bool) -> Path:
    """The unit of a service."""
    return unit_folder(is_system=is_system) / f"edge-mrcnn-{name}.service"


def read_installed(path: Path, name: str) -> str:
    """The text of a file of a service; MissingFileError if it is not installed."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such service; `edge-mrcnn service install` makes one") from None


def expect_user(name: str) -> str:
    """A user of this machine; UsageError if there is none of this name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"--user {name}: this machine has no such user") from None
    return name


def name_caller() -> str:
    """The current user; UsageError if this user has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id that is not in the user database
        raise UsageError("--system: this user has no name; give a user name with --user") from None


def find_groups() -> list[str]:
    """Those of `GROUPS` that this machine has."""
    return [name for name in GROUPS if any(group.gr_name == name for group in grp.getgrall())]


def find_folders(values: Mapping[str, Any]) -> list[Path]:
    """Folders that the options write to."""
    return [Path(values[key]).absolute().parent for key in WRITTEN if key in values]


def systemctl(is_system: bool) -> str:
    """The command that manages services."""
    return "sudo systemctl" if is_system else "systemctl --user"


def explain(unit: Unit) -> None:
    """Print the next commands."""
    control = systemctl(unit.is_system)
    click.echo(f"next: {control} daemon-reload && {control} enable --now {unit.file_name}")
    if not unit.is_system:
        click.echo("      loginctl enable-linger    # start at boot, before anybody logs in")
    journal = "sudo journalctl" if unit.is_system else "journalctl --user"
    click.echo(f"      {journal} -fu {unit.file_name}")
