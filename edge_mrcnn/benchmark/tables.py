"""A benchmark as tables and sentences, for a terminal of 100 columns and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

import click

from edge_mrcnn.benchmark.rows import NET, TOTAL, Benchmark, Failure, Ratio, Row, Sustained
from edge_mrcnn.tables import NONE, WIDTH, Table, counted, draw_bars, draw_curve

STAGES = ("preprocess", "inference", "postprocess", "draw")
BUSY = 0.1
"""Load by other processes, as a share of all cores, that causes a warning."""
BAR = 14
"""Length of the longest bar, in characters; no bars if less than half of it fits."""
PEERS = (
    "Models of other tools are timed without pre- and post-processing, on the same images converted to their input: "
    "their pre- and post-processing is not in the file."
)
"""Note on the rows of other tools."""

Column = tuple[str, Callable[[Row], str]]
"""Title, and a function that makes the cell of a row."""


def to_text(benchmark: Benchmark) -> str:
    """As text for a terminal: titles are bold, the fastest row is green, warnings are yellow."""
    lines = [click.style(str(benchmark.board), bold=True)]
    fastest = benchmark.own.index(benchmark.fastest)
    for title, table in _sections(benchmark):
        header, *body = table.text()
        body[fastest] = click.style(body[fastest], fg="green")
        lines += ["", click.style(title, bold=True), click.style(header, dim=True), *body]
    if benchmark.sustained:
        title, *body = sustained_lines(benchmark.sustained)
        lines += ["", click.style(title, bold=True), *body]
    cautions = warnings(benchmark)
    for note in notes(benchmark):
        colour = "yellow" if note in cautions else None
        lines += ["", click.style(textwrap.fill(note, WIDTH), fg=colour)]
    return "\n".join([*lines, ""])


def to_markdown(benchmark: Benchmark) -> str:
    """As GitHub Markdown."""
    lines = ["# Benchmark", "", f"{benchmark.board}. Measured {benchmark.created}."]
    for title, table in _sections(benchmark, bars=False):
        lines += ["", f"## {title}", "", *table.markdown()]
    if benchmark.sustained:
        lines += ["", "## Sustained", "", "```", *sustained_lines(benchmark.sustained), "```"]
    packages = ", ".join(f"{name} {version}" for name, version in benchmark.packages.items())
    files = {row.path: f"`{row.name}` sha256 `{row.sha256}`" for row in benchmark.rows}
    lines += ["", "## Notes", ""]
    for note in (*notes(benchmark), f"Packages: {packages}.", *files.values()):
        lines.append(f"- {note}")
    return "\n".join(lines) + "\n"


def speed_table(benchmark: Benchmark) -> Table:
    """End-to-end times of our files."""
    columns: list[Column] = [
        ("p50 ms", lambda row: _ms(row.latency[TOTAL].p50)),
        ("p90", lambda row: _ms(row.latency[TOTAL].p90)),
        ("p99", lambda row: _ms(row.latency[TOTAL].p99)),
        ("FPS", lambda row: f"{row.fps:.1f}"),
    ]
    camera_fps = benchmark.settings["camera_fps"]
    if camera_fps:
        columns.append((f"dropped at {camera_fps:g}", lambda row: _percent(row.dropped)))
    columns.append(("speed-up", lambda row: _times(row.ratio)))
    columns.append(("spread", lambda row: _spread(row.ratio)))
    return _table(benchmark.own, columns)


def net_table(benchmark: Benchmark) -> Table:
    """Times of the network alone, for ours and other tools' files."""
    return _table(
        benchmark.rows,
        [
            ("input", _input_size),
            ("p50 ms", lambda row: _ms(row.latency[NET].p50)),
            ("p90", lambda row: _ms(row.latency[NET].p90)),
            ("p99", lambda row: _ms(row.latency[NET].p99)),
            ("speed-up", lambda row: _times(row.net_ratio)),
            ("spread", lambda row: _spread(row.net_ratio)),
        ],
    )


def stage_table(benchmark: Benchmark) -> Table:
    """Median time of each stage of our files."""
    shown = [stage for stage in STAGES if stage in benchmark.own[0].latency]
    columns = [(stage, _median_of(stage)) for stage in shown]
    return _table(benchmark.own, [*columns, ("objects", lambda row: f"{row.objects:.1f}")])


def cost_table(benchmark: Benchmark) -> Table:
    """File size, memory and start-up time."""
    return _table(
        benchmark.rows,
        [
            ("file MB", lambda row: f"{row.size_bytes / 1e6:.2f}"),
            ("memory MB", lambda row: f"{row.peak_memory_bytes / 1e6:.0f}"),
            ("open s", lambda row: f"{row.load_s:.2f}"),
            ("first result s", lambda row: f"{row.first_result_s:.2f}"),
        ],
    )


def sustained_lines(run: Sustained) -> list[str]:
    """Curves over time, and the change from the first to the last part."""
    fps = [window.fps for window in run.windows]
    degrees = [window.temperature_c for window in run.windows]
    clock = [window.frequency_mhz for window in run.windows]
    minutes = run.windows[-1].end_s / 60
    change = f"{100 * (run.last_fps / run.first_fps - 1):+.0f} %".replace("-", "−")
    lines = [
        f"Sustained: {run.name}, {run.place}, {minutes:.1f} minutes of continuous load",
        f"FPS          {draw_curve(fps, lowest=0.0)}  {run.first_fps:.1f} in the first {run.span_s:.0f} s, "
        f"{run.last_fps:.1f} in the last: {change}",
    ]
    if any(value is not None for value in degrees):
        lines.append(f"temperature  {draw_curve(degrees)}  {_from_to(degrees, '°C')}")
    if any(value is not None for value in clock):
        lines.append(f"clock        {draw_curve(clock, lowest=0.0)}  {_from_to(clock, 'MHz')}")
    for reason, first_s in _first_seen(run).items():
        lines.append(f"throttled    {reason}, first seen after {first_s / 60:.1f} minutes")
    return lines


def _first_seen(run: Sustained) -> dict[str, float]:
    """Cause of throttling -> end of the first window with it, in seconds."""
    seen: dict[str, float] = {}
    for window in run.windows:
        for reason in window.throttling:
            seen.setdefault(reason, window.end_s)
    return seen


def notes(benchmark: Benchmark) -> list[str]:
    """Notes on how to read the figures, warnings first."""
    lines = warnings(benchmark)
    for failure in _once(benchmark):
        lines.append(f"Not timed: {failure.name}, {failure.place}: {failure.reason}")
    lines.append(_method(benchmark))
    if benchmark.peers:
        lines.append(PEERS)
    lines.append(_state(benchmark))
    return lines


def _sections(benchmark: Benchmark, *, bars: bool = True) -> list[tuple[str, Table]]:
    speed = speed_table(benchmark)
    room = min(BAR, WIDTH - 2 - len(speed.text()[0]))
    if bars and room > BAR // 2:
        speed = speed.with_column("", draw_bars([row.fps for row in benchmark.own], room))
    sections = [("End to end", speed), ("Median time of each stage, ms", stage_table(benchmark))]
    if benchmark.peers:
        sections.append(("Network alone, with models of other tools", net_table(benchmark)))
    return [*sections, ("Size, memory and start-up", cost_table(benchmark))]


def warnings(benchmark: Benchmark) -> list[str]:
    lines = []
    if benchmark.invalid:
        reasons = dict.fromkeys(reason for row in benchmark.invalid for reason in row.throttling)
        lines.append(
            f"INVALID: the processor was throttled ({', '.join(reasons)}) in {len(benchmark.invalid)} of "
            f"{len(benchmark.rows)} rows. Cool the board, check its power supply, and repeat the benchmark."
        )
    share = benchmark.others_share
    if share is not None and share > BUSY:
        lines.append(
            f"Other processes used {_percent(share)} of the CPU during the benchmark. Times are too long; ratios are "
            "valid within their spread."
        )
    if benchmark.settings["source"] is None:
        lines.append(
            "The images are generated and show few objects, so times are too short. Use your own with --source."
        )
    return lines


def _method(benchmark: Benchmark) -> str:
    settings, first = benchmark.settings, benchmark.rows[0]
    last = f"the drawn image (score threshold {settings['conf']:g})" if settings["draw"] else "detections"
    kept = "; N threads pinned to N cores" if settings["pin"] else ""
    return (
        f"{counted(settings['pictures'], 'image')}, {counted(settings['rounds'], 'round')} with all candidates "
        f"interleaved, {counted(settings['warm_up'], 'warm-up run')} before each; time from the frame in memory to "
        f"{last}{kept}. Speed-up: over {first.name}, {first.place}, in the median round; spread: worst to best round."
    )


def _state(benchmark: Benchmark) -> str:
    before, after = benchmark.conditions
    parts = [f"governor {after.governor}"] if after.governor else []
    if after.power_mode:
        parts.append(f"power mode {after.power_mode}")
    if before.temperature_c is not None and after.temperature_c is not None:
        parts.append(f"{before.temperature_c:.0f} °C before, {after.temperature_c:.0f} °C after")
    if after.power_w is not None:
        parts.append(f"{after.power_w:.1f} W")
    if after.throttled_before:
        parts.append(f"throttled since the board started: {', '.join(after.throttled_before)}")
    return f"The board: {'; '.join(parts) or 'governor and temperature unknown'}."


def _once(benchmark: Benchmark) -> list[Failure]:
    """Failures, one per file and reason; the number of threads rarely matters."""
    first: dict[tuple[str, str], Failure] = {}
    for failure in benchmark.failures:
        first.setdefault((failure.name, failure.reason), failure)
    return list(first.values())


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    header = ["model", "precision", "threads"]
    header += [title for title, _ in columns]
    body = []
    for row in rows:
        cells = [row.name, row.precision, str(row.threads or row.place)]
        cells += [render(row) for _, render in columns]
        body.append(tuple(cells))
    return Table(tuple(header), tuple(body), text_columns=2)


def _median_of(stage: str) -> Callable[[Row], str]:
    return lambda row: _ms(row.latency[stage].p50)


def _input_size(row: Row) -> str:
    if row.input_size_hw is None:
        return row.runs_as.get("input", NONE)
    height, width = row.input_size_hw
    return f"{height}x{width}"


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _times(ratio: Ratio | None) -> str:
    return NONE if ratio is None else f"{ratio.median:.2f}×"


def _spread(ratio: Ratio | None) -> str:
    return NONE if ratio is None else f"{ratio.low:.2f}–{ratio.high:.2f}"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.0f} %"


def _from_to(values: Sequence[float | None], unit: str) -> str:
    known = [value for value in values if value is not None]
    return f"{known[0]:.0f} to {known[-1]:.0f} {unit}, at most {max(known):.0f}"
