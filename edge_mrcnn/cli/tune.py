"""`edge-mrcnn tune`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_mrcnn.cli.options import DATA_HELP, int_list, load_split, make_progress, name_next, split_paths
from runtimes.errors import GateError


@click.command()
@click.option("--models", multiple=True, help="Exported models or folders of them, separated by commas or spaces.")
@click.argument("more", nargs=-1, metavar="[MODELS]...")
@click.option("--data", required=True, help=DATA_HELP)
@click.option(
    "--reference", type=click.Path(path_type=Path), help="Reference model or reference.json [default: the FP32 model]."
)
@click.option("--max-drop", type=click.FloatRange(0, 1), default=0.005, show_default=True, help="Maximum drop in AP.")
@click.option("--limit", type=click.IntRange(1), help="Measure accuracy on at most this many images.")
@click.option(
    "--threads", callback=int_list, help="Numbers of CPU threads to try, such as 1,2,4 [default: 1, 2, ... all cores]."
)
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds; each times every candidate once."
)
@click.option(
    "--device", default="cpu", show_default=True, help="Devices to try, such as cpu,gpu: cpu, gpu, npu, cuda, tensorrt."
)
@click.option(
    "--openvino-precision",
    default="f32",
    show_default=True,
    help="OpenVINO's precision of float layers: f32, auto or both.",
)
@click.option("--all", "evaluates_all", is_flag=True, help="Also evaluate slower candidates.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all results to this JSON file.")
def command(
    models: tuple[str, ...], more: tuple[str, ...], data: str, reference: Path | None, max_drop: float,
    limit: int | None, threads: tuple[int, ...], rounds: int, device: str, openvino_precision: str, evaluates_all: bool,
    json_path: Path | None,
) -> None:  # fmt: skip
    """Find the fastest combination of model, runtime and threads on this board that is accurate enough.

    The choice is saved in the folder of the models, where `edge-mrcnn run --model FOLDER` reads it.

    \b
    edge-mrcnn tune --models models/ --data val.json --max-drop 0.005
    """
    from edge_mrcnn.benchmark.candidates import find_models, parse_devices, parse_precisions
    from edge_mrcnn.benchmark.session import Plan
    from edge_mrcnn.tune.choice import write_choice
    from edge_mrcnn.tune.search import TuneConfig, to_choice, to_record, tune
    from edge_mrcnn.tune.text import to_text, verdict

    config = TuneConfig(
        max_drop=max_drop, limit=limit, plan=Plan(rounds=rounds), threads=threads, evaluates_all=evaluates_all,
        openvino_precisions=parse_precisions(openvino_precision), devices=parse_devices(device),
    )  # fmt: skip
    files = find_models(split_paths((*models, *more)))
    tuning = tune(files, load_split(data, "val"), config, reference=reference, progress=make_progress())
    click.echo(to_text(tuning))
    if json_path:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(to_record(tuning), indent=1) + "\n", encoding="utf-8")
        click.echo(f"wrote {json_path}")
    if tuning.chosen is None:
        raise GateError(f"{verdict(tuning)} Quantize with --keep-float, or allow a larger --max-drop")
    folder = Path(tuning.chosen.row.path).parent
    click.echo(f"wrote {write_choice(folder, to_choice(tuning, tuning.benchmark.board))}")
    name_next("run", "--model", folder, "--source", 0)
