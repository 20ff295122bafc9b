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
@click.option("--models", multiple=True, help="Files or folders, several after one --models or with commas.")
@click.argument("more", nargs=-1, metavar="[MODELS]...")
@click.option("--source", "--images", help="Pictures: camera, video, image, folder or glob [default: made up].")
@click.option("--pictures", type=click.IntRange(1), default=20, show_default=True, help="Pictures of it at most.")
@click.option("--threads", callback=int_list, help="CPU threads, such as 1,2,4 [default: 1, 2, ... all cores].")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds; in each, all take turns.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Rounds for so long instead; two at least.")
@click.option("--sustained", type=click.FloatRange(0), default=0.0, help="Then run the fastest for so many minutes.")
@click.option("--camera-fps", type=click.FloatRange(0, min_open=True), help="Say how many frames a camera would lose.")
@click.option("--compare", multiple=True, help="Files of others, whose net alone is timed; repeat, or with commas.")
@click.option("--device", default="cpu", show_default=True, help="Where, such as cpu,gpu: gpu, npu, cuda, tensorrt.")
@click.option("--openvino-precision", default="f32", show_default=True, help="Of float layers: f32, auto, or both.")
@click.option("--conf", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Lowest score that counts.")
@click.option("--draw/--no-draw", default=True, help="Count the drawing, or end at the detections  [default: draw]")
@click.option("--pin/--no-pin", default=True, help="Keep N threads on N cores, or let them wander  [default: pin]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the records to this file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for benchmark.md and benchmark.json.")
@overwrite_option
def command(
    models: tuple[str, ...], more: tuple[str, ...], source: str | None, pictures: int, threads: tuple[int, ...],
    rounds: int, seconds: float | None, sustained: float, camera_fps: float | None, compare: tuple[str, ...],
    device: str, openvino_precision: str, conf: float, draw: bool, pin: bool, json_path: Path | None,
    output: Path | None, overwrite: bool,
) -> None:  # fmt: skip
    """Time models side by side on this machine: every runtime, precision and number of threads.

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
        raise GateError("the benchmark is invalid: the processor was held back while it ran")
    name_next("run", "--model", benchmark.fastest.path, "--threads", benchmark.fastest.threads, "--source", source or 0)


def _write(benchmark: Benchmark, json_path: Path | None, folder: Path | None) -> None:
    """Write what was asked for; folders are made."""
    from edge_mrcnn.benchmark.tables import to_markdown

    texts = {json_path: benchmark.to_json} if json_path else {}
    if folder:
        texts |= {folder / "benchmark.md": lambda: to_markdown(benchmark), folder / "benchmark.json": benchmark.to_json}
    for path, render in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(), encoding="utf-8")
        click.echo(f"wrote {path}")
