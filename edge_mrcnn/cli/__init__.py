"""The command line: `edge-mrcnn VERB`.

The group knows each verb's module and help line and imports a verb only when it runs, so that
`--help` answers at once and needs no torch (click, "Lazily Loading Subcommands").
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import warnings

import click

from edge_mrcnn import __version__
from edge_mrcnn.cli.extras import explain_broken, explain_missing
from edge_mrcnn.cli.habits import adapt, suggest_verb
from edge_mrcnn.cli.interruption import came_of_interrupt, handlers_restored, interruption
from edge_mrcnn.cli.repeats import expect_once
from edge_mrcnn.live.logs import LEVELS, set_up_logs
from runtimes.errors import EdgeError, expect_text
from runtimes.quiet import quiet_opencv
from runtimes.redaction import redact

COMMANDS = {  # verb -> help line; the verb's module is edge_mrcnn.cli.<verb> and holds `command`
    "scenes": "Generate a data set of pictures to try everything with.",
    "data": "Find every fault of a data set before training.",
    "train": "Train a Mask R-CNN on COCO-format data.",
    "shrink": "Teach a light model what a heavy one knows.",
    "prune": "Remove channels from a checkpoint and fine-tune it.",
    "export": "Write a checkpoint as ONNX, OpenVINO and TFLite, verified.",
    "calib": "Choose or record the pictures for calibration.",
    "quantize": "Turn exported FP32 files into INT8.",
    "predict": "Find objects in images; draw and write COCO results.",
    "run": "Run a model live on a camera, stream or video.",
    "service": "Have systemd run a camera, from boot on.",
    "val": "Measure the AP of one file or checkpoint.",
    "report": "Compare artefacts with the FP32 model: AP, drop, size, latency.",
    "benchmark": "Time models side by side on this machine.",
    "tune": "Find what runs fastest on this board within a drop.",
    "doctor": "Say what this machine has, and what must be mended.",
    "verify": "Check on this device that a model computes what it should.",
    "inspect": "Show what is inside a model file.",
    "bundle": "Put a model and what belongs to it into one file.",
    "models": "List what comes along, and presets with their cost.",
    "demo": "The whole chain on generated pictures.",
}


class LazyGroup(click.Group):
    """A click group whose commands are modules that are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"edge_mrcnn.cli.{name}").command
        expect_once(command)
        adapt(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(suggest_verb(args[0], COMMANDS), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-mrcnn")
@click.option("-v", "--verbose", count=True, help="Log what is going on; twice for every detail.")
@click.option("-q", "--quiet", is_flag=True, help="Log errors only.")
@click.option("--log-level", type=click.Choice(LEVELS), help="Log from this level on, to stderr.")
def group(verbose: int, quiet: bool, log_level: str | None) -> None:
    """Train, prune, quantize and export a light Mask R-CNN, and run it on an edge camera."""
    interruption.begin()
    quiet_opencv()
    set_up_logs(log_level or ("error" if quiet else ("warning", "info", "debug")[min(verbose, 2)]))


def main() -> None:
    """Entry point: what a user can mend is one line on stderr and its exit code; a signal is 128 and its number."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # the warnings of libraries are for us, not for their users
    with handlers_restored():
        _run()


def _run() -> None:
    try:
        code = _invoke()
    except EdgeError as error:
        click.echo(redact(f"error: {error}"), err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:  # a device has no torch
        message = explain_missing(error, next((word for word in sys.argv[1:] if word in COMMANDS), ""))
        if message is None:
            raise
        click.echo(f"error: {message}", err=True)
        sys.exit(1)
    except ImportError as error:  # a library of the system is missing, or two packages do not fit
        message = explain_broken(error)
        if message is None:
            raise
        click.echo(f"error: {message}", err=True)
        sys.exit(1)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        sys.exit(128 + (interruption.number or signal.SIGINT))
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except OSError as error:  # a folder that cannot be written, a full disk
        click.echo(
            f"error: {': '.join(filter(None, (error.filename and str(error.filename), error.strerror)))}", err=True
        )
        sys.exit(1)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _invoke() -> object:
    """Do what the command line says; what fails because of a signal is a stop, whatever became of it on its way."""
    for argument in sys.argv:
        expect_text(argument)
    try:
        return group(standalone_mode=False, prog_name="edge-mrcnn")
    except (EdgeError, click.exceptions.Abort):
        raise
    except Exception as error:
        if interruption.number is not None or came_of_interrupt(error):
            raise click.exceptions.Abort from None
        raise


def _show(error: click.ClickException) -> None:
    """One line like every other error; where click's message is the help page, that page."""
    message = error.format_message()
    if "\n" in message:
        error.show()
        return
    context = getattr(error, "ctx", None)
    hint = f"; see {context.command_path} --help" if context else ""
    click.echo(redact(f"error: {message.rstrip('.')}{hint}"), err=True)
