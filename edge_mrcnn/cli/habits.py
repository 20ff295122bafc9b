"""Help for users of other tools: their names of verbs and options, `key=value`, and misspelt verbs.

The help shows only our own names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from weakref import WeakSet

import click

VERB_NAMES = {
    "eval": "val", "evaluate": "val", "validate": "val", "test": "val", "detect": "predict", "infer": "predict",
    "segment": "predict", "convert": "export", "bench": "benchmark", "check": "doctor", "checks": "doctor",
    "track": "run", "stream": "run", "serve": "run", "live": "run", "info": "inspect", "ptq": "quantize",
}  # fmt: skip
"""Verb of another tool -> our verb, which is suggested."""
OPTION_NAMES = {
    "-m": ("--model", "--models", "--weights"), "-i": ("--source", "--data"), "-d": ("--device",),
    "-w": ("--weights", "--model"), "-b": ("--batch",),
    "--weights": ("--model",), "--model": ("--weights",), "--input": ("--source",), "--format": ("--target",),
    "--formats": ("--target",), "--include": ("--target",), "--img": ("--imgsz",), "--img-size": ("--imgsz",),
    "--image-size": ("--imgsz",), "--batch-size": ("--batch",), "--lr0": ("--lr",), "--half": ("--fp16",),
    "--conf-thres": ("--conf",), "--iou-thres": ("--iou",), "--confidence": ("--conf",), "--max-dets": ("--max-det",),
    "--nc": ("--classes",), "--project": ("--output",), "--out": ("--output",), "--output-dir": ("--output",),
    "--exist-ok": ("--overwrite",), "--view-img": ("--show",),
}  # fmt: skip
"""Option of another tool -> our options; the first one that the verb has is used."""
KEY_VALUE = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=(.*)", re.DOTALL)

_adapted: WeakSet[click.Command] = WeakSet()


def adapt(command: click.Command) -> None:
    """Let a command take the option names of other tools, and name `key=value` in its error; in place."""
    for below in getattr(command, "commands", {}).values():
        adapt(below)
    if command in _adapted:
        return
    _adapted.add(command)
    parse = command.parse_args

    def parse_args(ctx: click.Context, args: list[str]) -> list[str]:
        flags = _flags(command, ctx)
        renamed = [rename(word, flags) for word in _before_rest(args)]
        _refuse_pairs(command, ctx, renamed, flags)
        return parse(ctx, renamed + args[len(renamed) :])

    command.parse_args = parse_args  # type: ignore[method-assign]


def rename(word: str, flags: Mapping[str, bool]) -> str:
    """Our name of an option, if the word is another tool's name for it; else the word itself.

    Args:
        word: Of the command line: "--format=onnx".
        flags: Options of the verb, and whether each takes a value.
    """
    name, equals, value = word.partition("=")
    if name in flags or name not in OPTION_NAMES:
        return word
    ours = next((flag for flag in OPTION_NAMES[name] if flag in flags), name)
    return f"{ours}{equals}{value}"


def suggest_verb(name: str, verbs: Iterable[str]) -> str:
    """The message for an unknown verb."""
    near = VERB_NAMES.get(name) or next(iter(difflib.get_close_matches(name, list(verbs), n=1, cutoff=0.5)), "")
    return f"no verb {name!r}" + (f"; did you mean {near}?" if near else "")


def _flags(command: click.Command, ctx: click.Context) -> dict[str, bool]:
    options = [param for param in command.get_params(ctx) if isinstance(param, click.Option)]
    names: dict[str, bool] = {}
    for option in options:
        takes_value = not (option.is_flag or option.count)
        names |= dict.fromkeys((*option.opts, *option.secondary_opts), takes_value)
    return names


def _before_rest(args: list[str]) -> list[str]:
    """The words before "--"; those after it belong to another command."""
    return args[: args.index("--")] if "--" in args else args


def _refuse_pairs(command: click.Command, ctx: click.Context, args: list[str], flags: Mapping[str, bool]) -> None:
    """Name the first word such as `epochs=3` that no option takes as its value.

    Raises:
        UsageError: If there is such a word and the verb has that option.
    """
    for before, word in zip(["", *args], args, strict=False):
        pair = KEY_VALUE.fullmatch(word)
        if not pair or flags.get(before):
            continue
        key, value = pair.groups()
        flag = rename(f"--{key.replace('_', '-')}", flags)
        if flag in flags:
            shown = f"{flag} {value}" if flags[flag] else flag
            raise click.UsageError(f"{word}: options need dashes: {shown}", ctx)
