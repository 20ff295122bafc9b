"""Fixtures of the stream tests: servers, and figures that are printed at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pace import Pace
from stream_servers import has_rtsp

FIGURES: list[str] = []


@pytest.fixture(scope="session")
def _rtsp() -> None:
    if not has_rtsp():
        pytest.skip("needs gir1.2-gst-rtsp-server-1.0 and python3-gi from Debian: make test-streams installs them")


@pytest.fixture
def rtsp(_rtsp) -> None:
    """Skips where there is no RTSP server."""


@pytest.fixture
def figure(request) -> Callable[[str], None]:
    """Notes a figure that is printed at the end."""

    def note(text: str) -> None:
        FIGURES.append(f"{request.node.name:<58} {text}")

    return note


@pytest.fixture
def pace() -> Pace:
    """How slow the machine is; limits are asked for as `pace.allow(seconds)`."""
    return Pace()


def pytest_terminal_summary(terminalreporter) -> None:
    if FIGURES:
        terminalreporter.section("figures")
        for line in FIGURES:
            terminalreporter.line(line)
