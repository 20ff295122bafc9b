"""The options of `run` for what surrounds the loop, as one decorator: the command gets them as one `LiveSettings`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_mrcnn.live.config_file import load_config
from edge_mrcnn.live.credentials import PrivateUrl, Secret
from edge_mrcnn.live.logs import LEVELS, set_level
from edge_mrcnn.live.session import LiveSettings
from runtimes.counting import parse_line, parse_zone
from runtimes.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])
Parse = Callable[[str, str], Any]

OPTIONS = (
    click.option("--web", metavar="[HOST:]PORT", help="Live page, /healthz, /metrics: :8080 for this machine."),
    click.option(
        "--web-token", type=Secret(), metavar="TOKEN",
        help="Secret that opens the page; needed for another host. Better env:NAME or file:PATH.",
    ),
    click.option("--web-host", "web_hosts", multiple=True, metavar="NAME", help="Further name of the page."),
    click.option(
        "--mqtt", type=PrivateUrl(), metavar="URL",
        help="mqtt[s]://HOST[:PORT][/PREFIX]: state, events, Home Assistant. Password: env:NAME or file:PATH.",
    ),
    click.option("--webhook", type=PrivateUrl(), metavar="URL", help="POST events there as JSON."),
    click.option("--json", type=click.Path(path_type=Path), help="Write detections, one JSON line a frame."),
    click.option("--coco", type=click.Path(path_type=Path, dir_okay=False), help="Write a file of COCO results."),
    click.option("--track", "is_tracked", is_flag=True, help="Number objects, the same from frame to frame."),
    click.option(
        "--line", "lines", multiple=True, metavar="[NAME=]X0,Y0,X1,Y1",
        help="Count objects that cross, in shares of the picture: 0,0.5,1,0.5.",
    ),
    click.option(
        "--zone", "zones", multiple=True, metavar="[NAME=]'X,Y X,Y X,Y ...'",
        help="Count objects in an area, in shares of the picture.",
    ),
    click.option(
        "--log-level", type=click.Choice(LEVELS), expose_value=False,
        callback=lambda ctx, parameter, level: set_level(level) if level else None, help="What is logged to stderr.",
    ),
    click.option(
        "--config", type=click.Path(path_type=Path, dir_okay=False), is_eager=True, expose_value=False,
        callback=load_config, help="TOML file with any of these options, each a key: web = \":8080\".",
    ),
)  # fmt: skip


def live_options(command: Command) -> Command:
    """Add the options; they reach the command as `settings`, with `conf` of the command's own option among them."""

    @wraps(command)
    def collect(*args: Any, **values: Any) -> Any:
        names = ("web", "web_token", "web_hosts", "mqtt", "webhook", "json", "coco", "is_tracked", "lines", "zones")
        chosen = {name: values.pop(name) for name in names}
        return command(*args, settings=_settle(chosen, values.pop("conf")), **values)

    decorated: Any = collect
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    result: Command = decorated
    return result


def _settle(chosen: dict[str, Any], conf: float) -> LiveSettings:
    lines = _parse_places(chosen.pop("lines"), parse_line, "line")
    zones = _parse_places(chosen.pop("zones"), parse_zone, "zone")
    names = [place.name for place in (*lines, *zones)]
    if len(set(names)) < len(names):
        raise UsageError(f"--line, --zone: expected different names, got {', '.join(names)}")
    if (chosen["web_token"] or chosen["web_hosts"]) and not chosen["web"]:
        raise UsageError("--web-token, --web-host: they belong to --web, which is missing")
    return LiveSettings(conf=conf, lines=lines, zones=zones, **chosen)


def _parse_places(texts: Iterable[str], parse: Parse, kind: str) -> tuple[Any, ...]:
    return tuple(parse(text, f"{kind} {number}") for number, text in enumerate(texts, 1))
