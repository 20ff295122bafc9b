"""`edge-mrcnn bundle`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from edge_mrcnn.cli.options import name_next
from edge_mrcnn.cli.outputs import choose_output, overwrite_option
from runtimes.errors import MissingFileError, UsageError


class MakeByDefault(click.Group):
    """A group that passes anything but its commands on to `make`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["make", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, ["make", *args] if args and args[0] not in known else args)


@click.group(cls=MakeByDefault)
def command() -> None:
    """Pack a model and its companion files into one file. Every command accepts a bundle as a model.

    \b
    edge-mrcnn bundle MODEL       the same as `bundle make MODEL`
    edge-mrcnn bundle inspect FILE
    """


@command.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--report", type=click.Path(path_type=Path), help="Folder of a report, as written by `edge-mrcnn report`."
)
@click.option("--calib", type=click.Path(path_type=Path), help="Manifest of the calibration images.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Output file [default: beside the model].")
@overwrite_option
def make(model: Path, report: Path | None, calib: Path | None, output: Path | None, overwrite: bool) -> None:
    """Write a bundle: model, card, golden tensors, calibration manifest, report, and a SHA-256 of each."""
    from runtimes.bundle import SUFFIX, write_bundle
    from runtimes.model_file import ModelFile

    output = output or model.with_suffix(SUFFIX)
    if output.suffix != SUFFIX:
        raise UsageError(f"-o {output}: expected a name that ends in {SUFFIX}")
    file = ModelFile(model)
    output = choose_output(output, [*file.files, report, calib], overwrite=overwrite)
    extras = {"card.json": json.dumps(asdict(file.card), indent=1).encode()}
    if file.golden is not None:
        extras["golden.npz"] = file.golden
    if calib is not None:
        extras["calibration/manifest.json"] = read_calibration(calib)
    if report is not None:
        extras.update(read_report(report))
    manifest = write_bundle(file.path, output, extras)
    click.echo(f"wrote {output}: {len(manifest.files)} files, {output.stat().st_size / 1e6:.1f} MB")
    name_next("bundle", "inspect", output)


def read_calibration(path: Path) -> bytes:
    """The content of a calibration manifest, after a check.

    Raises:
        MissingFileError, DataError: If it is not.
    """
    from quantize.calibration import read_manifest

    read_manifest(path)
    return path.read_bytes()


def read_report(folder: Path) -> dict[str, bytes]:
    """Name in the bundle -> content of each file of a report.

    Raises:
        MissingFileError: If the folder has no report.
    """
    if not (folder / "report.json").is_file():
        raise MissingFileError(f"{folder}: no report.json in this folder; make a report with `edge-mrcnn report`")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"report/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files}


@command.command()
@click.argument("bundle", type=click.Path(path_type=Path))
def inspect(bundle: Path) -> None:
    """List the files of a bundle and check their hashes."""
    from runtimes.bundle import read_entry, read_manifest

    manifest = read_manifest(bundle)
    for entry in manifest.files:
        read_entry(bundle, entry.name)
        click.echo(f"{entry.sha256[:16]}  {entry.bytes:>12,}  {entry.name}")
    click.echo(f"{len(manifest.files)} files, all hashes match; the model is {manifest.model}")
    name_next("verify", bundle)
