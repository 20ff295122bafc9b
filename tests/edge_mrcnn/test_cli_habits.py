"""Option names of other tools, pairs of key and value, misspelt verbs."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from edge_mrcnn.cli import COMMANDS, group
from edge_mrcnn.cli.habits import OPTION_NAMES, VERB_NAMES, adapt, rename, suggest_verb
from edge_mrcnn.export import TARGETS
from edge_mrcnn.export.settings import ExportConfig
from runtimes.errors import UsageError


def say(*words: str) -> click.testing.Result:
    return CliRunner().invoke(group, words)


@pytest.mark.parametrize(
    ("word", "verb"), [("trian", "train"), ("exprot", "export"), ("eval", "val"), ("detect", "predict"), ("rnu", "run")]
)
def test_misspelt_verb_is_suggested(word, verb):
    assert suggest_verb(word, COMMANDS) == f"no verb {word!r}; did you mean {verb}?"
    result = say(word, "--data", "x")
    assert result.exit_code == 2 and f"did you mean {verb}?" in result.output


def test_unknown_verb_without_a_similar_one_is_only_named():
    assert suggest_verb("xyzzy", COMMANDS) == "no verb 'xyzzy'"


def test_suggestions_are_verbs_that_are_there():
    assert set(VERB_NAMES.values()) <= set(COMMANDS) and not set(VERB_NAMES) & set(COMMANDS)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["train", "data=coco.yaml", "epochs=3"], "data=coco.yaml: options need dashes: --data coco.yaml"),
        (["train", "--data", "coco", "batch_size=3"], "--batch 3"),
        (["predict", "save=1", "source=a.png"], "--source a.png"),
        (["run", "--source", "0", "overwrite=True"], "--overwrite"),
        (["data", "check", "x", "json=y"], "json=y"),
    ],
)
def test_key_and_value_are_named(words, hint):
    result = say(*words)
    assert result.exit_code == 2 and hint in result.output


@pytest.fixture
def command() -> click.Command:
    @click.command()
    @click.option("--model")
    @click.option("--source", multiple=True)
    @click.option("--target")
    @click.argument("rest", nargs=-1)
    def command(**values: object) -> None:
        click.echo(values)

    adapt(command)
    return command


def test_other_names_of_options_are_ours(command):
    words = ["-m", "a.onnx", "-i", "door=0", "--format=litert", "--", "-m", "model=3"]
    result = CliRunner().invoke(command, words)
    assert "'model': 'a.onnx', 'source': ('door=0',), 'target': 'litert', 'rest': ('-m', 'model=3')" in result.output


def test_own_option_of_a_verb_is_not_renamed():
    flags = {"--weights": True, "--model": True, "-m": False}
    assert [rename(word, flags) for word in ("-m", "--weights", "--model=x")] == ["-m", "--weights", "--model=x"]
    assert rename("--format=onnx", flags) == "--format=onnx"  # an error that click names


def test_every_alias_is_used_by_a_verb():
    from edge_mrcnn.cli.habits import _flags

    known: set[str] = set()
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        known |= set(_flags(command, click.Context(command)))
    for name, ours in OPTION_NAMES.items():
        assert set(ours) <= known, name


def test_formats_by_other_names():
    assert ExportConfig(targets=("litert", "ov")).targets == ("tflite", "openvino") and set(TARGETS) >= {"tflite"}
    with pytest.raises(UsageError, match="TensorRT builds its engine on the device"):
        ExportConfig(targets=("engine",))


@pytest.mark.parametrize(("typed", "offered"), [("edge-mrcnn be", "benchmark"), ("edge-mrcnn export --ta", "--target")])
def test_shell_completes_verbs_and_options(typed, offered):
    environment = {
        "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_EDGE_MRCNN_COMPLETE": "bash_complete",
    }  # fmt: skip
    result = CliRunner(env=environment).invoke(group, prog_name="edge-mrcnn")
    assert f"plain,{offered}" in result.output
