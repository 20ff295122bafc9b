"""The command line: `edge-mrcnn VERB`.

The group knows each verb's module and help line and imports a verb only when it runs, so that `--help` is fast and
needs no torch (click, "Lazily Loading Subcommands").
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
    "scenes": "Generate a data set to try the tools with.",
    "data": "Check a data set for faults before training, or convert it.",
    "train": "Train a Mask R-CNN on COCO-format data.",
    "shrink": "Train a light model from a heavy one by distillation.",
    "prune": "Remove channels from a checkpoint and fine-tune it.",
    "export": "Export a checkpoint to ONNX, OpenVINO and TFLite.",
    "calib": "Select or record images for INT8 calibration.",
    "quantize": "Quantize an exported FP32 file to INT8.",
    "predict": "Detect objects in images.",
    "run": "Run a model live on a camera, stream or video.",
    "service": "Install a camera as a systemd service that starts at boot.",
    "val": "Measure the AP of one model.",
    "report": "Compare exported models with the FP32 model.",
    "benchmark": "Compare the speed of models on this machine.",
    "tune": "Find the fastest accurate setting for this board.",
    "doctor": "Check this machine and its packages for problems.",
    "verify": "Check that a model computes correctly on this device.",
    "inspect": "Show what is inside a model file.",
    "bundle": "Pack a model and its companion files into one file.",
    "models": "List installed models, presets with their cost, and backbones.",
    "demo": "Run the whole chain on generated images.",
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
@click.option("-v", "--verbose", count=True, help="Log progress; give it twice for details.")
@click.option("-q", "--quiet", is_flag=True, help="Log errors only.")
@click.option("--log-level", type=click.Choice(LEVELS), help="Lowest level of log messages on stderr.")
def group(verbose: int, quiet: bool, log_level: str | None) -> None:
    """Train, prune, quantize and export a light Mask R-CNN, and run it on an edge camera."""
    interruption.begin()
    quiet_opencv()
    set_up_logs(log_level or ("error" if quiet else ("warning", "info", "debug")[min(verbose, 2)]))


def main() -> None:
    """Entry point: an error that the user can fix is one line on stderr and an exit code; a signal is 128 plus its
    number."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # warnings of libraries are for developers
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
    except ImportError as error:  # a system library is missing, or two packages are incompatible
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
    """Run the command line; an exception caused by a signal counts as an interruption, whatever its type."""
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
    """One line like every other error; if click's message is the help page, that page."""
    message = error.format_message()
    if "\n" in message:
        error.show()
        return
    context = getattr(error, "ctx", None)
    hint = f"; see {context.command_path} --help" if context else ""
    click.echo(redact(f"error: {message.rstrip('.')}{hint}"), err=True)
