"""Packet loss, in a network namespace of its own whose loopback drops packets by rules of nftables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
TOOLS = ("unshare", "ip", "nft")


@pytest.fixture(autouse=True)
def tools(rtsp):
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(TOOLS)}")


def run_apart(kind: str) -> dict[str, float]:
    script = 'ip link set lo up && exec "$0" "$@"'
    command = ["unshare", "-n", "sh", "-c", script, sys.executable, str(FOLDER / "lossy_network.py"), kind]
    environment = {**os.environ, "PYTHONPATH": f"{FOLDER}:{FOLDER.parents[1]}"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_damaged_frames_of_a_lossy_udp_stream_are_counted(figure):
    seen = run_apart("udp")
    figure(f"3 % of packets lost: {seen['damaged']} of {seen['received']} frames damaged and skipped")
    assert seen["damaged"] > 0 and seen["processed"] > 0


def test_pulled_cable_is_noticed_and_survived(pace, figure):
    seen = run_apart("tcp")
    figure(f"noticed after {seen['gone_s']:.2f} s, back {seen['back_s']:.1f} s after the cable")
    assert seen["gone_s"] <= pace.allow(3) and seen["back_s"] <= pace.allow(7)  # TCP and the pause between attempts
