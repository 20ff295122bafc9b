"""Keep what a measurement printed, and write the tables of docs/evidence.md from it.

    python benchmarks/evidence.py report runs/garments/report/report.json garments --command 'edge-mrcnn report ...'
    python benchmarks/evidence.py peers runs/peers/peers.json peers --command 'python benchmarks/peers.py ...'
    python benchmarks/evidence.py table runs/pipeline/pipeline.md pipeline --command 'python benchmarks/pipeline.py ...'
    python benchmarks/evidence.py page

The first three write benchmarks/results/NAME.json: what the page shows of a report, of a comparison with the peers, or
of the tables of another benchmark, with the command, the machine, the date and the versions. The last puts a table of
each file between the marks that name it in docs/evidence.md. `<!-- summary: NAMES -->` marks a table of what INT8
changes in several reports. The tests compare the page with the files, and the README with the page.
"""

from __future__ import annotations

import datetime
import json
import re
import statistics
from pathlib import Path
from typing import Any

import click

from edge_mrcnn import __version__
from edge_mrcnn.evaluation.drop import Drop
from edge_mrcnn.measure.surroundings import describe_device, describe_packages
from edge_mrcnn.report.wording import delta, interval, megabytes, points
from edge_mrcnn.tables import Table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "evidence.md"
MARKED = re.compile(r"<!-- recorded: ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)
SUMMARY = re.compile(r"<!-- summary: ([\w ,-]+) -->\n.*?<!-- end -->", re.DOTALL)
METRICS = ("box", "mask")
Change = tuple[float, float]
"""Change of box and mask AP in points."""
TARGETS = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "tflite": "TFLite"}


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command("report")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("name")
@click.option("--command", required=True, help="What was typed, with folders of yours as the documentation names them.")
def keep_report(source: Path, name: str, command: str) -> None:
    """Keep what `edge-mrcnn report` wrote."""
    record = json.loads(source.read_text())
    labels = [data["label"] for data in record["data_sets"]]
    kept = {
        "kind": "report",
        "command": command,
        "date": record["created"][:10],
        "version": __version__,
        "machine": record["device"],
        "packages": record["packages"],
        "data": [shorten_data(data) for data in record["data_sets"]],
        "rows": [shorten_row(row, labels) for row in record["rows"]],
    }
    write(name, kept)


def shorten_data(data: dict[str, Any]) -> dict[str, Any]:
    """A data set without its path on this machine."""
    kept = {key: data[key] for key in ("label", "sha256", "images", "objects")}
    return {**kept, "classes": len(data["classes"])}


def shorten_row(row: dict[str, Any], labels: list[str]) -> dict[str, Any]:
    """A model's size, time and AP with its drop on each data set."""
    scores = {}
    for label in labels:
        score = row["scores"][label]
        scores[label] = {metric: score[metric]["ap"] for metric in METRICS}
        for metric in METRICS:
            scores[label][f"{metric}_drop"] = score[f"{metric}_drop"]
    kept = {key: row[key] for key in ("name", "target", "precision", "size_bytes", "sha256", "macs")}
    return {**kept, "ms": row["latency"]["total"]["p50"], "scores": scores}


@main.command("peers")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("name")
@click.option("--command", required=True, help="What was typed.")
def keep_peers(source: Path, name: str, command: str) -> None:
    """Keep what `benchmarks/peers.py` wrote on this machine."""
    write(name, {**describe_run("peers", command, source), **json.loads(source.read_text())})


@main.command("table")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("name")
@click.option("--command", required=True, help="What was typed.")
def keep_table(source: Path, name: str, command: str) -> None:
    """Keep the Markdown tables that a benchmark wrote on this machine."""
    lines = source.read_text(encoding="utf-8").strip().splitlines()
    write(name, {**describe_run("table", command, source), "lines": lines})


def describe_run(kind: str, command: str, source: Path) -> dict[str, Any]:
    """What was run, on which day and machine, with which packages; the day is that of the source file."""
    changed = datetime.datetime.fromtimestamp(source.stat().st_mtime)
    return {
        "kind": kind,
        "command": command,
        "date": f"{changed:%Y-%m-%d}",
        "version": __version__,
        "machine": describe_device(),
        "packages": describe_packages(),
    }


def write(name: str, kept: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    click.echo(f"wrote {file.relative_to(ROOT)}")


@main.command("page")
def write_page() -> None:
    """Write the tables of docs/evidence.md."""
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    click.echo(f"wrote {PAGE.relative_to(ROOT)}")


def fill(page: str) -> str:
    """A page with the table of each record between its marks."""

    def replace(found: re.Match[str]) -> str:
        name = found[1]
        record = json.loads((RESULTS / f"{name}.json").read_text())
        body = "\n".join(TABLES[record["kind"]](record))
        return f"<!-- recorded: {name} -->\n\n{facts(name, record)}\n\n{body}\n\n<!-- end -->"

    def summarize(found: re.Match[str]) -> str:
        names = found[1].split(", ")
        return "\n".join([f"<!-- summary: {found[1]} -->", "", *int8_summary(names), "", "<!-- end -->"])

    return SUMMARY.sub(summarize, MARKED.sub(replace, page))


def facts(name: str, record: dict[str, Any]) -> str:
    """The command, with machine and date."""
    machine = record["machine"]
    return (
        f"`{record['command']}`\n\n"
        f"{record['date']}, {machine['processor']}, {machine['cores']} cores, {machine['system']}; "
        f"`benchmarks/results/{name}.json`."
    )


def report_tables(record: dict[str, Any]) -> list[str]:
    """A table for each data set."""
    lines: list[str] = []
    for data in record["data"]:
        classes = "class" if data["classes"] == 1 else "classes"
        title = f"{data['label']}: {data['images']} pictures, {data['objects']} masks, {data['classes']} {classes}"
        lines += ["", f"**{title}**", "", *report_table(record["rows"], data["label"])]
    return lines[1:]


def report_table(rows: list[dict[str, Any]], label: str) -> list[str]:
    header = ("model", "MB", "box AP", "Δ box", "95 %", "mask AP", "Δ mask", "95 %")
    body = []
    for row in rows:
        score = row["scores"][label]
        cells = [row["name"], megabytes(row["size_bytes"])]
        for metric in METRICS:
            drop = as_drop(score[f"{metric}_drop"])
            cells += [points(score[metric]), delta(drop), interval(drop) or "–"]
        body.append(tuple(cells))
    return Table(header, tuple(body), 1).markdown()


def int8_summary(names: list[str]) -> list[str]:
    """The change of box and mask AP by INT8 in points on each data set of these records, and two means over all."""
    header = ("model and data", "pictures", "masks", *(f"{name}: box, mask" for name in TARGETS.values()))
    changes: dict[str, list[Change]] = {target: [] for target in TARGETS}
    pictures: list[int] = []
    body = []
    for name in names:
        record = json.loads((RESULTS / f"{name}.json").read_text())
        rows = {row["target"]: row for row in record["rows"] if row["precision"] == "int8"}
        for data in record["data"]:
            pictures.append(data["images"])
            for target, own in changes.items():
                own.append(change_of(rows[target]["scores"][data["label"]]))
            cells = [signed(own[-1]) for own in changes.values()]
            body.append((f"{name}, {data['label']}", f"{data['images']}", f"{data['objects']}", *cells))
    for title, weights in (("mean", None), ("mean, weighted by pictures", pictures)):
        means = [signed(mean_change(own, weights)) for own in changes.values()]
        body.append((title, "", "", *means))
    return Table(header, tuple(body), 1).markdown()


def mean_change(changes: list[Change], weights: list[int] | None) -> Change:
    """The mean of box and of mask."""
    box, mask = (statistics.fmean(values, weights) for values in zip(*changes, strict=True))
    return box, mask


def signed(change: Change) -> str:
    """Such as "-0.16, +0.04"."""
    return ", ".join(f"{value:+.2f}".replace("-0.00", "0.00").replace("+0.00", "0.00") for value in change)


def change_of(score: dict[str, Any]) -> Change:
    """Change of box and mask AP in points; a loss is negative."""
    box, mask = (-100 * score[f"{metric}_drop"]["value"] for metric in METRICS)
    return box, mask


def as_drop(record: dict[str, Any] | None) -> Drop | None:
    """A drop as a report's JSON has it."""
    return Drop(value=record["value"], interval=tuple(record["interval"])) if record else None


def peers_table(record: dict[str, Any]) -> list[str]:
    """Milliseconds until boxes, scores, labels and masks are there, the ratio of the first model and the last, and that
    of the first model's network and its own backbone."""
    cases: dict[tuple[Any, ...], dict[str, dict[str, float]]] = {}
    backbones: dict[tuple[Any, ...], float] = {}
    for row in record["rows"]:
        runtime, size, objects = row["runtime"], row["size"], row["objects"]
        if row["model"].endswith("backbone"):  # a row of a backbone alone has no detections
            backbones[runtime, size] = row["network"]
        else:
            cases.setdefault((runtime, size, objects), {})[row["model"]] = row
    first, *_, last = dict.fromkeys(model for rows in cases.values() for model in rows)
    ratios = (f"{first} / {last}", "network / backbone")
    header = ("runtime", "px", "objects", f"{first}, ms", f"{last}, ms", *ratios)
    body = []
    for (runtime, size, objects), rows in cases.items():
        own, other = rows[first]["results"], rows[last]["results"]
        share = rows[first]["network"] / backbones[runtime, size]
        times = (f"{own:.1f}", f"{other:.1f}", f"{own / other:.2f}", f"{share:.1f}")
        body.append((runtime, f"{size}", f"{objects}", *times))
    return Table(header, tuple(body), 1).markdown()


def kept_lines(record: dict[str, Any]) -> list[str]:
    """The tables as the benchmark wrote them."""
    lines: list[str] = record["lines"]
    return lines


TABLES = {"report": report_tables, "peers": peers_table, "table": kept_lines}

if __name__ == "__main__":
    main()
