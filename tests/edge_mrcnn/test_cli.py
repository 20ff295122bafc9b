"""The command line: every error is one line and an exit code, and help starts quickly."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from edge_mrcnn.cli import COMMANDS, LazyGroup, group, options
from edge_mrcnn.config import PRESETS
from runtimes.errors import UsageError

ROOT = Path(__file__).parents[2]
HELP = """
import sys
from edge_mrcnn.cli import main
sys.argv = ["edge-mrcnn", *sys.argv[1:]]
try:
    main()
finally:
    heavy = {"torch", "lightning", "onnx", "onnxruntime", "openvino", "nncf", "pycocotools", "matplotlib"}
    print("imported:", sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["export", "-h"], ["prune", "-h"], ["run", "-h"]]
)
def test_help_needs_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", HELP, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.endswith("imported: []\n")
    assert "Usage: edge-mrcnn" in done.stdout


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_its_module_and_help(verb: str, cli: Callable) -> None:
    outcome = cli(verb, "--help")
    assert outcome.code == 0 and f"Usage: edge-mrcnn {verb}" in outcome.out


def test_every_option_has_a_help_line() -> None:
    assert [name for name, option in all_options(group) if not (option.help or option.hidden)] == []


def all_options(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Option]]:
    """Command and first name, and the option itself, of every option."""
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield f"{name} {parameter.opts[-1]}", parameter
    if isinstance(command, click.Group):
        context = click.Context(command)
        for verb in command.list_commands(context):
            found = command.get_command(context, verb)
            assert found is not None
            yield from all_options(found, f"{name} {verb}")


def test_list_of_verbs_is_the_help(cli: Callable) -> None:
    assert all(line in cli("--help").out for line in COMMANDS.values())
    assert "Commands" in cli().err


def test_group_imports_a_verb_only_when_it_is_asked_for() -> None:
    lazy = LazyGroup("g")
    assert lazy.get_command(click.Context(lazy), "none") is None
    assert lazy.list_commands(click.Context(lazy)) == list(COMMANDS)


@pytest.fixture
def bad(tmp_path: Path, toy_data: Path, toy_checkpoint: Path) -> dict[str, Path]:
    """Unusable files by type of fault."""
    (tmp_path / "images").symlink_to(toy_data / "images" / "train")
    (tmp_path / "text.json").write_text("no JSON")
    (tmp_path / "cut.pt").write_bytes(toy_checkpoint.read_bytes()[:3000])
    (tmp_path / "file").touch()
    return {"folder": tmp_path, "data": toy_data, "good": toy_checkpoint}


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("train --data {folder}/none.json", 1, "no such file"),
        ("train --data {folder}/text.json", 1, "not JSON"),
        ("train --data {data} --model giant", 2, "giant"),
        ("train --data {data} --backbone none --imgsz 64", 2, "mobilenet_v3_large"),
        ("train --data {data} --imgsz big", 2, "320x448"),
        ("train --data {data} --imgsz 100", 2, "multiples of 32"),
        ("train --data {data} --batch 0", 2, "batch 0"),
        ("train --data {data} --eval-every 0", 2, "eval_every 0"),
        ("train --data {data} --epochs many", 2, "--epochs"),
        ("train --data {data} --weights {good} --epochs 0 --device cpu -o {folder}/out", 2, "epochs 0"),
        ("train --data {data} --weights {folder}/cut.pt", 1, "cut.pt"),
        ("train --data {data} --weights {folder}/none.pt", 1, "none.pt"),
        ("train --data {data} --weights {good} --resume -o {folder}/out --device cpu", 2, "start without --resume"),
        ("train --data {data} --weights {good} --epochs 1 --workers 0 --device cpu -o {folder}/file", 1, "file"),
        ("train --data {data} --weights {good} --device quantum", 2, "quantum"),
        ("train --data {data} --pretrained --backbone-weights x", 2, "only one of"),
        ("train --data {data} --weights x --pretrained", 2, "--backbone"),
        ("train --data {data} --weights x --backbone-weights y", 2, "--backbone"),
        ("train --data {data} --backbone-weights {folder}/none.pth --imgsz 64", 1, "none.pth"),
        ("prune --data {data} --weights {folder}/none.pt --macs 0.5", 1, "none.pt"),
        ("prune --data {data} --weights {good} --ratio 1", 2, "ratio"),
        ("prune --data {data} --weights {good}", 2, "exactly one budget"),
        ("export --weights {folder}/none.pt", 1, "none.pt"),
        ("export --weights {folder}/cut.pt --target onnx", 1, "cut.pt"),
        ("export --weights {good} --target coreml", 2, "onnx, openvino, tflite"),
        ("export --weights {good} --target ,", 2, "onnx, openvino, tflite"),
        ("export --weights {good} --int8", 2, "--calib"),
        ("export --weights {good} --int8 --calib {folder}/none", 1, "none"),
        ("export --weights {good} --keep-float tail", 2, "tail"),
        ("export --weights {good} --calib-images 0", 2, "at least one"),
        ("export --weights {good} --target onnx --imgsz 70", 2, "multiples of 32"),
        ("export --weights {good} --target onnx --conf 2", 2, "threshold"),
        ("export --weights {good} --target onnx --max-det 0", 2, "at least 1"),
        ("export", 2, "--weights"),
        ("quantize --model {folder}/none.onnx --calib {data}", 1, "none.onnx"),
        ("quantize --model {folder}/file --calib {data}", 1, ".onnx"),
        ("quantize --model {folder}/none.onnx --calib {folder}/none", 1, "none"),
        ("fly", 2, "fly"),
    ],
)
def test_bad_input_is_one_line_and_a_code(
    cli: Callable, bad: dict[str, Path], monkeypatch: pytest.MonkeyPatch, line: str, code: int, words: str
) -> None:
    monkeypatch.chdir(bad["folder"])
    before = {p.name for p in bad["folder"].iterdir()}
    outcome = cli(*(word.format(**bad) for word in line.split()))
    errors = [text for text in outcome.err.splitlines() if text.startswith("error: ")]
    assert outcome.code == code, outcome.err
    assert len(errors) == 1 and errors[0] == outcome.err.splitlines()[-1] and words in errors[0]
    assert "Traceback" not in outcome.err and outcome.out == ""
    assert {p.name for p in bad["folder"].iterdir()} - before <= {"out", "runs"}


def test_prune_without_fine_tuning_writes_its_checkpoint(
    cli: Callable, toy_data: Path, toy_checkpoint: Path, tmp_path: Path
) -> None:
    arguments = ["--data", toy_data, "--weights", toy_checkpoint, "--epochs", 0, "--device", "cpu", "-o", tmp_path]
    outcome = cli("prune", "--ratio", 0.3, *arguments)
    assert outcome.code == 0, outcome.err
    assert f"wrote {tmp_path / 'best.pt'}" in outcome.out and (tmp_path / "best.pt").is_file()


def test_interrupted_training_exits_130_and_resumes(
    cli: Callable, toy_data: Path, toy_checkpoint: Path, tmp_path: Path
) -> None:
    arguments = ["train", "--data", toy_data, "--weights", toy_checkpoint, "--batch", 2, "--workers", 0]
    arguments += ["--device", "cpu", "-o", tmp_path]
    with interrupt_after(tmp_path / "last.ckpt"):
        outcome = cli(*arguments, "--epochs", 500)
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1] == "stopped" and "Traceback" not in outcome.err
    done = sum(text.startswith("epoch ") for text in outcome.err.splitlines())
    assert 0 < done < 400
    outcome = cli(*arguments, "--epochs", done + 1, "--resume")
    assert outcome.code == 0
    epochs = [text.split("  ")[0] for text in outcome.err.splitlines() if text.startswith("epoch ")]
    assert epochs == [f"epoch {done + 1}/{done + 1}"]
    assert outcome.out.splitlines() == [
        f"wrote {tmp_path / 'best.pt'}",
        f"next: edge-mrcnn export --weights {tmp_path / 'best.pt'} --target onnx,openvino,tflite",
    ]


def test_next_command_can_be_typed_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    options.name_next("run", "--model", Path("my models/best.onnx"), "--source", 0)
    assert capsys.readouterr().out == "next: edge-mrcnn run --model 'my models/best.onnx' --source 0\n"


@contextmanager
def interrupt_after(file: Path) -> Iterator[None]:
    """Send this process a Ctrl-C when a file appears, unless the body ends before."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.01):
            if file.exists():
                signal.raise_signal(signal.SIGINT)
                return

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
        signal.signal(signal.SIGINT, handler)


class TestOptions:
    @pytest.mark.parametrize(("text", "size"), [("320", (320, 320)), ("256x448", (256, 448)), ("256X448", (256, 448))])
    def test_size(self, text: str, size: tuple[int, int]) -> None:
        assert options.image_size(None, None, text) == size
        assert options.image_size(None, None, None) is None

    @pytest.mark.parametrize("text", ["", "x", "3x", "1x2x3", "-64", "64.0", "a"])
    def test_impossible_size(self, text: str) -> None:
        with pytest.raises(UsageError):
            options.image_size(None, None, text)

    def test_comma_list(self) -> None:
        assert options.comma_list(" a, b,,c ") == ("a", "b", "c")
        assert options.comma_list("") == ()

    def test_validation_split_is_found_beside_training(self, toy_data: Path) -> None:
        assert len(options.val_split(str(toy_data)).images) == 3
        assert options.val_split(str(toy_data / "annotations" / "instances_train.json")) is None


def test_models_lists_presets_and_backbones(cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(PRESETS, "resnet50")  # ten seconds of convolutions
    outcome = cli("models")
    assert outcome.code == 0 and outcome.err == ""
    for name in ("nano", "small", "shufflenet_v2_x1_0", "timm:"):
        assert name in outcome.out
    assert outcome.out.splitlines()[-1].startswith("next: edge-mrcnn train")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["run", "--model", "m.onnx", "--source", "0", "--runtime", "onnx", "--runtime", "tflite"], "--runtime"),
        (["run", "--model", "a.onnx", "--model=b.onnx", "--source", "0"], "--model"),
        (["train", "--data", "a", "--data", "b"], "--data"),
        (["report", "--reference", "a", "--reference", "b", "--data", "d"], "--reference"),
        (["report", "reference", "--weights", "a", "--weights", "b", "--data", "d"], "--weights"),
        (["calib", "pick", "--data", "a", "-o", "x", "--output", "y"], "--output"),
    ],
)
def test_option_of_one_value_given_twice_is_wrong_usage(cli, arguments, option):
    result = cli(*arguments)
    assert result.code == 2
    assert f"{option}: given 2 times, but it takes one value" in result.err
