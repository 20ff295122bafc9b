"""Options made from dataclasses, the configuration file, and the repetition of a run from the file that it wrote."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import pytest
from click.testing import CliRunner

from edge_mrcnn.cli import export, prune, train
from edge_mrcnn.cli.config_file import read_config
from edge_mrcnn.cli.fields import ADVANCED, SectionedCommand, given, is_typed, setting_options, write_options
from edge_mrcnn.config import PRESETS, ModelConfig, TrainConfig
from edge_mrcnn.export.settings import ExportConfig
from edge_mrcnn.prune.settings import PruneConfig
from edge_mrcnn.settings import Flag, Range, check, describe
from runtimes.errors import UsageError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Oven:
    """How a cake is baked."""

    heat: Annotated[int, Range(50, 250)] = 180
    """Temperature in degrees
    Celsius.

    A second paragraph that help leaves out.
    """
    mode: Literal["fan", "grill"] = "fan"
    """Where the heat comes from."""
    preheat: bool = False
    """Heat before the cake is in."""
    racks: Annotated[tuple[int, ...], Range(1), Flag("--rack")] = (2, 3)
    """Racks that are used."""
    times_s: tuple[float, float] = (60.0, 120.0)
    """Shortest and longest time in seconds on each of `racks`."""
    tin_size_hw: tuple[int, int] = (20, 30)
    """Size of the tin."""
    note: str | None = None
    """What to write on the cake."""

    def __post_init__(self) -> None:
        check(self)


SEEN: dict[str, Any] = {}


@click.command(cls=SectionedCommand, sections={"Options": ("cake", "heat")})
@click.option("--cake", required=True, help="What is baked.")
@setting_options(Oven, unset={"note": "nothing"})
@click.pass_context
def bake(ctx: click.Context, **values: Any) -> None:
    """Bake."""
    SEEN.clear()
    SEEN.update(values, typed=[name for name in values if is_typed(ctx, name)], ctx=ctx)


def invoke(*arguments: object) -> Any:
    result = CliRunner().invoke(bake, [str(a) for a in arguments], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


class TestOptionsOfADataclass:
    def test_help_says_sentence_range_and_default_in_sections(self) -> None:
        text = " ".join(invoke("--help").output.split())
        assert "Temperature in degrees Celsius. [at least 50 and at most 250; default: 180]" in text
        assert "second paragraph" not in text and "[fan|grill]" in text and "[default: nothing]" in text
        assert "time in seconds on each of --rack." in text  # another field is shown by its flag
        assert "[at least 1; default: 2,3]" in text and "S|HxW" in text and "20x30" in text
        assert text.index("--cake") < text.index("--heat") < text.index("--help") < text.index(f"{ADVANCED}:")
        assert text.index(f"{ADVANCED}:") < text.index("--mode")

    def test_only_given_options_are_recorded(self) -> None:
        invoke("--cake", "plum", "--heat", 200)
        assert given(SEEN, Oven) == {"heat": 200} and SEEN["typed"] == ["cake", "heat"]

    @pytest.mark.parametrize(
        ("arguments", "values"),
        [
            (["--rack", "1, 2,4"], {"racks": (1, 2, 4)}),
            (["--times-s", "1,2.5"], {"times_s": (1.0, 2.5)}),
            (["--tin-size-hw", "40"], {"tin_size_hw": (40, 40)}),
            (["--tin-size-hw", "40x50"], {"tin_size_hw": (40, 50)}),
            (["--preheat"], {"preheat": True}),
            (["--no-preheat"], {"preheat": False}),
            (["--mode", "grill"], {"mode": "grill"}),
        ],
    )
    def test_values_become_those_of_the_field(self, arguments: list[str], values: dict[str, Any]) -> None:
        invoke("--cake", "plum", *arguments)
        assert given(SEEN, Oven) == values
        assert Oven(**given(SEEN, Oven))

    @pytest.mark.parametrize(
        "arguments", [["--times-s", "1"], ["--rack", "a"], ["--mode", "sun"], ["--tin-size-hw", "x"]]
    )
    def test_other_values_are_wrong_usage(self, arguments: list[str]) -> None:
        with pytest.raises((click.UsageError, UsageError)):
            invoke("--cake", "plum", *arguments)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"heat": 300}, "heat 300: expected at least 50 and at most 250"),
            ({"heat": float("nan")}, "heat nan"),
            ({"racks": (1, 0)}, "at least 1"),
            ({"mode": "sun"}, "expected fan or grill"),
            ({"times_s": (1.0,)}, "expected 2 values"),
        ],
    )
    def test_check_names_what_is_right(self, wrong: dict[str, Any], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            Oven(**wrong)

    def test_open_ends_are_left_out(self) -> None:
        half_open = Range(0, 1, without_least=True, without_most=True)
        assert 0.5 in half_open and 0 not in half_open and 1 not in half_open
        assert str(half_open) == "more than 0 and below 1"


class TestFileOfOptions:
    def test_command_line_wins_over_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "a.toml"
        file.write_text('cake = "plum"\nheat = 200\nrack = [1, 4]\ntin_size_hw = "40x50"\npreheat = true\n')
        invoke("--config", file, "--heat", 210)
        values = {"heat": 210, "racks": (1, 4), "tin_size_hw": (40, 50), "preheat": True}
        assert SEEN["cake"] == "plum" and given(SEEN, Oven) == values and SEEN["typed"] == ["heat"]

    def test_field_names_are_keys_too(self, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_text('cake = "plum"\nracks = [7]\ntimes_s = [1, 2]')
        invoke("--config", tmp_path / "a.toml")
        assert given(SEEN, Oven) == {"racks": (7,), "times_s": (1.0, 2.0)}

    def test_unknown_key_is_named_with_the_nearest_one(self, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_text("pre_heats = true")
        with pytest.raises(UsageError, match="no option 'pre_heats'; did you mean preheat"):
            read_config(tmp_path / "a.toml", bake)

    def test_what_is_written_is_read_as_the_same(self, tmp_path: Path) -> None:
        invoke("--cake", 'a "plum" ü', "--rack", "4", "--times-s", "1,1e-5")
        oven = Oven(**given(SEEN, Oven))
        used = {**SEEN, **{field.name: getattr(oven, field.name) for field in fields(oven)}}
        write_options(tmp_path / "deep" / "b.toml", SEEN["ctx"], used, "bake again")
        text = (tmp_path / "deep" / "b.toml").read_text(encoding="utf-8")
        assert text.startswith("# bake again\n") and "# Temperature in degrees Celsius.\nheat = 180\n" in text
        assert "# What to write on the cake.\n# note =\n" in text and f"# ---- {ADVANCED} ----" in text
        invoke("--config", tmp_path / "deep" / "b.toml")
        assert SEEN["cake"] == 'a "plum" ü' and Oven(**given(SEEN, Oven)) == oven


class TestVerbs:
    @pytest.mark.parametrize(
        ("command", "config", "kept_out"),
        [
            (train.command, TrainConfig, set()),
            (train.command, ModelConfig, {"name"}),
            (prune.command, PruneConfig, set()),
            (prune.command, TrainConfig, {"max_steps"}),
            (export.command, ExportConfig, {"category_ids"}),
        ],
    )
    def test_every_field_can_be_reached(self, command: click.Command, config: type, kept_out: set[str]) -> None:
        options = {parameter.name for parameter in command.params}
        assert {field.name for field in fields(config)} - options == kept_out

    @pytest.mark.parametrize("config", [TrainConfig, ModelConfig, PruneConfig, ExportConfig])
    def test_every_field_has_a_sentence(self, config: type) -> None:
        assert all(one.help and one.help.endswith(".") for one in describe(config))

    def test_train_leaves_no_option_without_a_section(self) -> None:
        assert train.command.sorted_params(click.Context(train.command))[ADVANCED] == []

    @pytest.mark.parametrize("verb", ["train", "prune", "export"])
    def test_help_is_there_within_a_second(self, verb: str) -> None:
        def once() -> float:
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", "edge_mrcnn", verb, "-h"], cwd=ROOT, capture_output=True)
            assert done.returncode == 0
            return time.perf_counter() - start

        assert min(once() for _ in range(5)) < 1.5  # 0.4 s on a quiet machine


class TestRepeatedRun:
    """Torch is needed from here on."""

    @pytest.fixture
    def run(self, cli: Callable, toy_data: Path, tmp_path: Path) -> Callable[..., Path]:
        pytest.importorskip("lightning", reason="pip install 'edge-mrcnn[train]'")

        def train_into(name: str, *arguments: object) -> Path:
            outcome = cli("train", *arguments, "-o", tmp_path / name)
            assert outcome.code == 0, outcome.err
            self.said = outcome.err
            return tmp_path / name

        return train_into

    def small(self, toy_data: Path) -> list[object]:
        line = (
            "--imgsz 64 --backbone repvgg_lite --fpn-channels 16 --box-hidden 32 --mask-hidden 16 --epochs 1 --lr 0.01"
        )
        line += " --batch 2 --workers 0 --device cpu --rois 16 --flip 0.2 --scale-jitter 0.9,1.1 --precision 32"
        return ["--data", toy_data, *line.split()]

    def test_file_that_a_training_wrote_gives_the_same_weights(self, run, toy_data: Path) -> None:
        from edge_mrcnn.model.checkpoint import load_checkpoint

        first = run("first", *self.small(toy_data))
        second = run("second", "--config", first / "config.toml")
        one, other = (load_checkpoint(folder / "last.pt") for folder in (first, second))
        states = one.model.state_dict(), other.model.state_dict()
        assert one.config == other.config and one.config.fpn_channels == 16
        assert all(states[0][key].equal(states[1][key]) for key in states[0])
        assert (first / "config.toml").read_text() == (second / "config.toml").read_text()

    def test_typed_checkpoint_keeps_its_parts_whatever_the_file_says(self, run, toy_data: Path, toy_checkpoint) -> None:
        from edge_mrcnn.model.checkpoint import load_checkpoint

        first = run("first", *self.small(toy_data))
        second = run("second", "--config", first / "config.toml", "--weights", toy_checkpoint, "--lr", 0.001)
        assert "ignored" in self.said
        assert load_checkpoint(second / "last.pt").config == load_checkpoint(toy_checkpoint).config
        written = read_config(second / "config.toml", train.command)
        assert written["weights"] == str(toy_checkpoint) and "model" not in written
        assert (written["lr"], written["flip"]) == (0.001, 0.2)
        third = run("third", "--config", second / "config.toml")
        assert (second / "config.toml").read_text() == (third / "config.toml").read_text()

    def test_parts_that_the_trained_weights_forbid_are_named(self, cli, toy_data: Path, toy_checkpoint: Path) -> None:
        outcome = cli("train", "--data", toy_data, "--weights", toy_checkpoint, "--fpn-channels", 32)
        assert outcome.code == 2 and "fpn_channels 32" in outcome.err and "expected 16" in outcome.err

    def test_pruning_and_export_write_what_they_used(self, cli, toy_data, toy_checkpoint, tmp_path: Path) -> None:
        common = ["--data", toy_data, "--weights", toy_checkpoint, "--epochs", 0, "--device", "cpu"]
        outcome = cli("prune", "--ratio", 0.3, "--imgsz", 64, *common, "-o", tmp_path)
        assert outcome.code == 0, outcome.err
        from edge_mrcnn.model.checkpoint import load_checkpoint

        assert load_checkpoint(tmp_path / "best.pt").config.image_size_hw == (64, 64)
        values = read_config(tmp_path / "config.toml", prune.command)
        assert (values["ratio"], values["epochs"], values["warmup_steps"], values["least"]) == (0.3, 0, 20, 0.33)


def test_presets_hold_values_of_the_right_types() -> None:
    for config in PRESETS.values():
        check(config)
