"""`edge-mrcnn report`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_mrcnn.cli.options import make_teller, name_next, split_paths
from runtimes.errors import GateError, MissingFileError, UsageError

if TYPE_CHECKING:
    from edge_mrcnn.data.coco import CocoData
    from edge_mrcnn.report.comparison import Measured
    from edge_mrcnn.report.pictures import Strip
    from edge_mrcnn.report.rows import Comparison


@click.command()
@click.option("--reference", required=True, help="What drops are counted from: the FP32 checkpoint, or an FP32 export.")
@click.option("--models", multiple=True, help="Files to compare: several after one --models, or with commas.")
@click.argument("more", nargs=-1, metavar="[MODELS]...")
@click.option("--data", required=True, help="COCO JSON, or a folder with annotations/instances_val.json.")
@click.option("--extra", multiple=True, metavar="LABEL=DATA", help="A further data set, outside the gate; repeatable.")
@click.option("--limit", type=click.IntRange(min=1), help="First so many images of each data set.")
@click.option("--max-drop", type=click.FloatRange(0, 1), help="Exit 3 if box or mask AP drops by more, such as 0.01.")
@click.option("--device", default="auto", show_default=True, help="Of checkpoints: auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of every runtime [default: its own choice].")
@click.option("--name", default="Accuracy report", show_default=True, help="Title of the report.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/report"), show_default=True)
def command(
    reference: str, models: tuple[str, ...], more: tuple[str, ...], data: str, extra: tuple[str, ...],
    limit: int | None, max_drop: float | None, device: str, threads: int | None, name: str, output: Path,
) -> None:  # fmt: skip
    """Compare artefacts with the FP32 model: AP, drop, size, latency.

    \b
    edge-mrcnn report --reference best.pt --models model.onnx model_int8.xml --data DIR --max-drop 0.01
    """
    from edge_mrcnn.report.comparison import CompareConfig, compare_models
    from edge_mrcnn.report.models import open_model

    paths = [Path(reference), *split_paths((*models, *more))]
    data_sets = load_data_sets(data, extra)
    config = CompareConfig(title=name, limit=limit, max_drop=max_drop)
    with ExitStack() as stack:
        opened = [open_model(path, device=device, threads=threads) for path in paths]
        for model in opened:
            stack.callback(model.runtime.close)
        measured = compare_models(opened, data_sets, config, say=make_teller())
    write_report(measured, data_sets, output)
    _conclude(measured.comparison, paths, output)


def load_data_sets(data: str, extra: Sequence[str]) -> dict[str, CocoData]:
    """Label to data set, the main one first; it is labelled by its folder or file.

    Raises:
        UsageError: If an extra one is not LABEL=DATA, or a label comes twice.
        MissingFileError, DataError: As `load_coco` does, or if the main data set's first image is missing.
    """
    from edge_mrcnn.data.coco import load_coco

    main = Path(data)
    sources = [(main.stem if main.is_file() else main.resolve().name, data)]
    for item in extra:
        label, equals, source = item.partition("=")
        if not (label and equals and source):
            raise UsageError(f"--extra {item}: expected LABEL=DATA, such as street=photos/street")
        sources.append((label, source))
    labels = [label for label, _ in sources]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(f"--extra: the label {', '.join(twice)} comes twice")
    data_sets = {label: load_coco(source, "val") for label, source in sources}
    for loaded in data_sets.values():
        if not (first := loaded.images[0].path).is_file():
            raise MissingFileError(f"{first}: no such image, though {loaded.path} lists it")
    return data_sets


def write_report(measured: Measured, data_sets: dict[str, CocoData], output: Path) -> None:
    """Write report.html, report.md and report.json into a folder, which is made."""
    from edge_mrcnn.report.markdown import to_markdown
    from edge_mrcnn.report.pictures import draw_strips
    from edge_mrcnn.report.render import to_html, to_json

    comparison = measured.comparison
    names = [row.name for row in comparison.rows]
    strips: list[Strip] = []
    for label, data in data_sets.items():
        count = 3 if not strips else 2  # the main data set shows more
        evaluations = dict(zip(names, measured.evaluations[label], strict=True))
        strips += draw_strips(label, data, evaluations, changed=count, typical=count)
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.html").write_text(to_html(comparison, strips), encoding="utf-8")
    (output / "report.md").write_text(to_markdown(comparison), encoding="utf-8")
    (output / "report.json").write_text(to_json(comparison), encoding="utf-8")


def _conclude(comparison: Comparison, paths: Sequence[Path], output: Path) -> None:
    """Print the table and the verdict, then fail at the gate or name the next command."""
    from edge_mrcnn.report.markdown import headline_table
    from edge_mrcnn.report.wording import verdict

    click.echo("\n".join(headline_table(comparison)))
    click.echo()
    if comparison.too_lossy:
        raise GateError(f"{verdict(comparison)} The report is {output / 'report.html'}")
    click.echo(verdict(comparison))
    click.echo(f"wrote {output / 'report.html'}, report.md, report.json")
    fastest = min(range(1, len(paths)), key=lambda index: comparison.rows[index].latency_ms)
    name_next("run", "--model", paths[fastest], "--source", 0)
