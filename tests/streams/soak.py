"""Soak test: two sources with random faults by a seed; memory, descriptors and frame counts are watched.

python tests/streams/soak.py --minutes 30 --seed 1
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from stream_servers import MjpegServer, RtspServer, has_rtsp  # noqa: E402
from watched import Watched, resources  # noqa: E402

SAMPLE_S = 5.0
WARM_UP_S = 60.0
"""Memory grows at first, while libraries fill their pools."""
MAX_SLOPE = 0.1
"""MB per minute."""


class RtspFaults:
    """Possible faults of an RTSP camera."""

    def __init__(self, server: RtspServer, chance: random.Random) -> None:
        self._server = server
        self._chance = chance

    def restart(self) -> None:
        self._server.kill()
        time.sleep(self._chance.uniform(0.2, 6))
        self._server.start()

    def change_size(self) -> None:
        self._server.kill()
        self._server.start(size_wh=self._chance.choice([(320, 240), (640, 352), (480, 272)]))

    def change_codec(self) -> None:
        self._server.kill()
        self._server.start(codec=self._chance.choice(["h264", "mjpeg"]))

    def freeze(self) -> None:
        self._server.freeze()
        time.sleep(self._chance.uniform(1, 8))
        self._server.thaw()

    @property
    def all(self):
        return [self.restart, self.change_size, self.change_codec, self.freeze]


class MjpegFaults:
    """Possible faults of an MJPEG camera."""

    def __init__(self, server: MjpegServer, chance: random.Random) -> None:
        self._server = server
        self._chance = chance

    def _for_a_while(self, fault: str) -> None:
        self._server.fault = fault
        time.sleep(self._chance.uniform(1, 8))
        self._server.fault = ""

    def freeze(self) -> None:
        self._for_a_while("freeze")

    def cut(self) -> None:
        self._for_a_while("cut")

    def close(self) -> None:
        self._for_a_while("close")

    def change_size(self) -> None:
        self._server.size_wh = self._chance.choice([(320, 240), (640, 360)])
        self._for_a_while("close")

    @property
    def all(self):
        return [self.freeze, self.cut, self.close, self.change_size]


def main() -> int:
    """Run; print the figures; 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fps", type=float, default=10)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    first = RtspServer(fps=round(options.fps)) if has_rtsp() else MjpegServer(fps=options.fps)
    faults = (RtspFaults if isinstance(first, RtspServer) else MjpegFaults)(first, chance).all
    with first, MjpegServer(fps=options.fps) as second:
        faults += MjpegFaults(second, chance).all
        with Watched(f"first={first.url}", f"second={second.url}", latency_s=0.03, stamped=False) as run:
            samples, happened = soak(run, faults, chance, 60 * options.minutes)
        statuses = run.stream.status()
    return report(run, statuses, samples, happened)


def soak(run, faults, chance, seconds):
    """Let faults happen; (time, memory, descriptors, threads) every few seconds, and how often each fault happened."""
    samples, happened = [], Counter()
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        calm_until = now + chance.uniform(3, 15)
        while now < calm_until:
            run.frames.clear()  # its own list must not count as a leak
            time.sleep(min(SAMPLE_S, calm_until - now))
            now = time.monotonic() - start
            gc.collect()
            samples.append((now, *resources().values()))
        fault = chance.choice(faults)
        happened[f"{type(fault.__self__).__name__[:-6]} {fault.__name__}"] += 1
        fault()
    time.sleep(8)
    return np.array(samples), happened


def report(run, statuses, samples, happened) -> int:
    """Print the figures and say whether the bounds hold."""
    later = samples[samples[:, 0] >= min(WARM_UP_S, samples[-1, 0] / 3)]
    slope = 60 * np.polyfit(later[:, 0], later[:, 1], 1)[0]
    half = len(later) // 2
    fds = int(np.median(later[half:, 2]) - np.median(later[:half, 2]))
    print(f"{samples[-1, 0] / 60:.1f} minutes, {happened.total()} faults: {dict(happened)}")
    for status in statuses:
        dropped = {cause: count for cause, count in status.dropped.items() if count}
        total = status.processed + sum(status.dropped.values()) + status.in_flight
        print(
            f"{status.name}: received {status.received} = processed {status.processed} + dropped "
            f"{sum(status.dropped.values())} {dropped} + in flight {status.in_flight}: {status.received == total}; "
            f"{status.reconnects} reconnections, {status.stalls} stalls"
        )
    first, last = later[0, 1], later[-1, 1]
    print(f"memory {first:.1f} -> {last:.1f} MB, slope {10 * slope:+.2f} MB per 10 minutes; descriptors {fds:+d}")
    is_good = run.error is None and slope < MAX_SLOPE and fds <= 0 and all(s.reconnects for s in statuses)
    print("good" if is_good else f"BROKEN {run.error or ''}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
