"""The commands of the demo are valid command lines; `test_chain` runs the chain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest

from edge_mrcnn.cli import demo, group

VALUES = {"epochs": 2, "tuning": 1, "scenes": 10, "device": "cpu", "photographs": "/a b/photographs"}
COMMANDS = [
    *demo.chain(demo.PEOPLE, Path("a b"), moving=demo.PHOTOGRAPHS, **VALUES),
    *demo.chain(demo.OWN.replace("{start}", demo.START), Path("a b"), **VALUES),
    *demo.chain(demo.OWN.replace("{start}", demo.FRESH), Path("a b"), **VALUES)[1:2],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:3]))
def test_command_parses(words: list[str]) -> None:
    context = click.Context(group)
    command = group.get_command(context, words[0])
    assert command is not None
    command.make_context(words[0], words[1:], parent=context)


def test_folders_with_blanks_stay_one_word() -> None:
    assert demo.chain("predict --source {photographs} -o {out}/people", Path("a b"), **VALUES) == [
        ["predict", "--source", "/a b/photographs", "-o", "a b/people"]
    ]


def test_begins_with_people_where_the_model_is_installed(shipped_toy, cli: Callable, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(demo, "PHOTOGRAPHS", "photograph#size=64x48,fps=1000")
    monkeypatch.setattr(demo, "OWN", "models")  # whatever ends at once in place of minutes
    monkeypatch.setattr("edge_mrcnn.cli.models.find_spec", lambda name: None)
    outcome = cli("demo", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in (tmp_path / "out" / "people").iterdir()) == [
        "a.jpg", "b.jpg", "onnx.mp4", "openvino.mp4", "predictions.json", "tflite.mp4",
    ]  # fmt: skip
