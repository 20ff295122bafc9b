"""`edge-mrcnn report`, and `edge-mrcnn report reference`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_mrcnn.cli.extras import expect_installed
from edge_mrcnn.cli.options import DATA_HELP, load_split, make_progress, name_next, split_paths, tile_options
from edge_mrcnn.cli.origin import as_own_file, origin_options
from edge_mrcnn.cli.outputs import choose_output, overwrite_option
from runtimes.errors import GateError, MissingFileError, UsageError
from runtimes.shipped import checkpoint_file, model_file

if TYPE_CHECKING:
    from edge_mrcnn.data.coco import CocoData
    from edge_mrcnn.report.comparison import Subject
    from edge_mrcnn.report.rows import Comparison


class ReportCommand(click.Command):
    """`report`; if the first argument is `reference`, that command instead."""

    @property
    def commands(self) -> dict[str, click.Command]:
        """The subcommand, as a click group lists them."""
        return {"reference": record}

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == ["reference"]:
            return record.make_context(f"{info_name} reference", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


@click.command(
    cls=ReportCommand,
    epilog="To compare on a device without torch, record the FP32 model first: `edge-mrcnn report reference --help`.",
)
@click.option(
    "--reference", required=True, help="FP32 checkpoint, FP32 export, or the file that `report reference` wrote."
)
@origin_options
@click.option("--models", multiple=True, help="Models to compare, separated by commas or spaces.")
@click.argument("more", nargs=-1, metavar="[MODELS]...")
@click.option("--data", required=True, help=DATA_HELP)
@click.option(
    "--extra",
    multiple=True,
    metavar="LABEL=DATA",
    help="Further data set to measure on, without the --max-drop check; repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Measure on at most this many images of each data set.")
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 1),
    help="Exit with code 3 if box or mask AP drops by more than this, such as 0.005.",
)
@click.option("--device", default="auto", show_default=True, help="Device of checkpoints: auto, cpu, cuda or cuda:N.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads of every runtime [default: the runtime's choice]."
)
@tile_options
@click.option(
    "--memory/--no-memory",
    default=True,
    help="Measure the memory of each model in a process of its own.  [default: memory]",
)
@click.option("--name", default="Accuracy report", show_default=True, help="Title of the report.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/report"),
    show_default=True,
    help="Folder of the report.",
)
@overwrite_option
def command(
    reference: str, models: tuple[str, ...], more: tuple[str, ...], data: str, extra: tuple[str, ...],
    limit: int | None, max_drop: float | None, device: str, threads: int | None, tile: int | None, overlap: float,
    memory: bool, name: str, output: Path, overwrite: bool,
) -> None:  # fmt: skip
    """Compare exported models with the FP32 model: AP, drop in AP, size, latency and memory.

    \b
    edge-mrcnn report --reference best.pt --models model.onnx model_int8.xml --data DIR --max-drop 0.005
    """
    expect_installed("pycocotools", "jinja2")
    from edge_mrcnn.report.comparison import CompareConfig, compare_models
    from edge_mrcnn.report.models import open_model
    from edge_mrcnn.report.reference_file import read_reference
    from edge_mrcnn.report.writing import write_report

    compared = [model_file(path) for path in split_paths((*models, *more))]
    paths = [as_own_file(checkpoint_file(reference), output), *compared]
    output = choose_output(output, [*paths, data], overwrite=overwrite)
    data_sets = load_data_sets(data, extra)
    config = CompareConfig(title=name, limit=limit, max_drop=max_drop, measures_memory=memory)
    with ExitStack() as stack:
        subjects: list[Subject] = [read_reference(paths[0])] if paths[0].suffix == ".json" else []
        for path in paths[len(subjects) :]:
            model = open_model(path, device=device, threads=threads, tile=tile, overlap=overlap)
            stack.callback(model.runtime.close)
            subjects.append(model)
        measured = compare_models(subjects, data_sets, config, progress=make_progress())
    write_report(measured, data_sets, output)
    _conclude(measured.comparison, paths, output)


@click.command("reference")
@click.option("--weights", required=True, type=click.Path(path_type=Path), help="FP32 checkpoint, or any other model.")
@click.option("--data", required=True, help=DATA_HELP)
@origin_options
@click.option("--extra", multiple=True, metavar="LABEL=DATA", help="Further data set to measure on; repeatable.")
@click.option("--limit", type=click.IntRange(min=1), help="Measure on at most this many images of each data set.")
@click.option("--device", default="auto", show_default=True, help="Device of a checkpoint: auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads [default: the runtime's choice].")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("reference.json"),
    show_default=True, help="File of the reference's results.",
)  # fmt: skip
@overwrite_option
def record(
    weights: Path,
    data: str,
    extra: tuple[str, ...],
    limit: int | None,
    device: str,
    threads: int | None,
    output: Path,
    overwrite: bool,
) -> None:
    """Record the detections of the FP32 model, for comparing on a device without torch or GPU.

    \b
    edge-mrcnn report reference --weights best.pt --data DIR --device cuda -o reference.json
    """
    from edge_mrcnn.report.comparison import record_model
    from edge_mrcnn.report.models import open_model
    from edge_mrcnn.report.reference_file import write_reference

    output = choose_output(output, [weights, data], overwrite=overwrite)
    data_sets = load_data_sets(data, extra)
    model = open_model(as_own_file(checkpoint_file(weights), output.parent), device=device, threads=threads)
    with model.runtime:
        facts, evaluations = record_model(model, data_sets, limit=limit, progress=make_progress())
    pairs = {label: (data_sets[label], evaluation) for label, evaluation in evaluations.items()}
    write_reference(output, model.card, facts, pairs)
    for label, (_, evaluation) in pairs.items():
        click.echo(
            f"{label}: box AP {evaluation.box.ap:.4f}, mask AP {evaluation.mask.ap:.4f} "
            f"on {evaluation.images} images, {facts.device}"
        )
    click.echo(f"wrote {output} ({output.stat().st_size / 1e6:.2f} MB)")
    name_next("report", "--reference", output, "--models", "model.tflite", "--data", data)


def load_data_sets(data: str, extra: Sequence[str]) -> dict[str, CocoData]:
    """Label -> data set, the main one first; its label is the name of its folder or file.

    Raises:
        UsageError: If an extra one is not LABEL=DATA, or a label is used twice.
        MissingFileError, DataError: As `data.load` does, or if the main data set's first image is missing.
    """
    main = Path(data)
    sources = [(main.stem if main.is_file() else main.resolve().name, data)]
    for item in extra:
        label, equals, source = item.partition("=")
        if not (label and equals and source):
            raise UsageError(f"--extra {item}: expected LABEL=DATA, such as street=photos/street")
        sources.append((label, source))
    labels = [label for label, _ in sources]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(f"--extra: expected different labels, got {', '.join(twice)} twice")
    data_sets = {label: load_split(source, "val") for label, source in sources}
    for loaded in data_sets.values():
        if not (first := loaded.images[0].path).is_file():
            raise MissingFileError(f"{first}: image not found, but {loaded.path} lists it")
    return data_sets


def _conclude(comparison: Comparison, paths: Sequence[Path], output: Path) -> None:
    """Print the table and the verdict, then fail if the drop is too large, or name the next command."""
    from edge_mrcnn.report.markdown import headline_table
    from edge_mrcnn.report.wording import interval_lines, say_precision, verdict

    click.echo("\n".join(headline_table(comparison)))
    click.echo()
    for line in (*interval_lines(comparison), say_precision(comparison, comparison.data_sets[0].label)):
        if line:
            click.echo(line)
    if comparison.too_lossy:
        raise GateError(f"{verdict(comparison)} The report is {output / 'report.html'}")
    click.echo(verdict(comparison))
    click.echo(f"wrote {output / 'report.html'}, report.md, report.json, plots/")
    fastest = min(range(1, len(paths)), key=lambda index: comparison.rows[index].latency_ms)
    name_next("run", "--model", paths[fastest], "--source", 0)
