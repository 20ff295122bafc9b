"""`edge-mrcnn benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_mrcnn.cli.options import int_list, make_progress, name_next, split_paths
from edge_mrcnn.cli.outputs import choose_output, overwrite_option
from runtimes.errors import GateError

if TYPE_CHECKING:
    from edge_mrcnn.benchmark.rows import Benchmark


@click.command()
@click.option("--models", multiple=True, help="Exported models or folders of them, separated by commas or spaces.")
@click.argument("more", nargs=-1, metavar="[MODELS]...")
@click.option("--source", "--images", help="Images: camera, video, image, folder or glob [default: generated].")
@click.option("--pictures", type=click.IntRange(1), default=20, show_default=True, help="Maximum number of images.")
@click.option(
    "--threads", callback=int_list, help="Numbers of CPU threads to try, such as 1,2,4 [default: 1, 2, ... all cores]."
)
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds; each times every candidate once."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="Repeat rounds for this many seconds instead, but at least two rounds.",
)
@click.option(
    "--sustained",
    type=click.FloatRange(0),
    default=0.0,
    help="Afterwards run the fastest candidate for this many minutes without a pause.",
)
@click.option(
    "--camera-fps",
    type=click.FloatRange(0, min_open=True),
    help="Show how many frames of a camera with this rate would be dropped.",
)
@click.option(
    "--compare",
    multiple=True,
    help="Models of other tools, timed without pre- and post-processing; separated by commas.",
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
@click.option("--conf", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Score threshold.")
@click.option("--draw/--no-draw", default=True, help="Include drawing in the time.  [default: draw]")
@click.option("--pin/--no-pin", default=True, help="Pin N threads to N cores.  [default: pin]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the results to this JSON file.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Output folder for benchmark.md and benchmark.json."
)
@overwrite_option
def command(
    models: tuple[str, ...], more: tuple[str, ...], source: str | None, pictures: int, threads: tuple[int, ...],
    rounds: int, seconds: float | None, sustained: float, camera_fps: float | None, compare: tuple[str, ...],
    device: str, openvino_precision: str, conf: float, draw: bool, pin: bool, json_path: Path | None,
    output: Path | None, overwrite: bool,
) -> None:  # fmt: skip
    """Compare the speed of models on this machine, by runtime, precision and number of threads.

    \b
    edge-mrcnn benchmark --models models/ --source street.mp4 --threads 1,4
    """
    from edge_mrcnn.benchmark.candidates import find_models, parse_devices, parse_precisions
    from edge_mrcnn.benchmark.run import BenchmarkConfig, run_benchmark
    from edge_mrcnn.benchmark.session import Plan
    from edge_mrcnn.benchmark.tables import to_text

    config = BenchmarkConfig(
        plan=Plan(rounds=rounds, seconds=seconds, pin=pin), threads=threads, source=source, pictures=pictures,
        draw=draw, conf=conf, camera_fps=camera_fps, sustained_minutes=sustained,
        openvino_precisions=parse_precisions(openvino_precision), devices=parse_devices(device),
    )  # fmt: skip
    own = find_models(split_paths((*models, *more)))
    peers = find_models(split_paths(compare, "--compare")) if compare else []
    if json_path:
        json_path = choose_output(json_path, [*own, *peers], overwrite=overwrite, option="--json")
    if output:
        output = choose_output(output, [*own, *peers], overwrite=overwrite)
    benchmark = run_benchmark(own, config, peers=peers, progress=make_progress())
    click.echo(to_text(benchmark))
    _write(benchmark, json_path, output)
    if benchmark.invalid:
        raise GateError("the benchmark is invalid: the processor was throttled while it ran")
    name_next("run", "--model", benchmark.fastest.path, "--threads", benchmark.fastest.threads, "--source", source or 0)


def _write(benchmark: Benchmark, json_path: Path | None, folder: Path | None) -> None:
    """Write the result files that the options name; folders are made."""
    from edge_mrcnn.benchmark.tables import to_markdown

    texts = {json_path: benchmark.to_json} if json_path else {}
    if folder:
        texts |= {folder / "benchmark.md": lambda: to_markdown(benchmark), folder / "benchmark.json": benchmark.to_json}
    for path, render in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(), encoding="utf-8")
        click.echo(f"wrote {path}")
