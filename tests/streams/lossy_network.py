"""A stream over a network that loses packets, run alone in a network namespace: prints one JSON object.

unshare -n sh -c "ip link set lo up && python lossy_network.py udp|tcp"
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from stream_servers import RtspServer
from watched import Watched

DROP = "nft add table ip t; nft add chain ip t c '{ type filter hook input priority 0; }'; nft add rule ip t c "


def lose_some_udp() -> dict[str, float]:
    """3 % of all UDP packets, for 12 s."""
    with RtspServer(is_busy=True, fps=15) as server, Watched(f"{server.url}#transport=udp", stamped=False) as run:
        run.wait_state("live", timeout_s=20)
        subprocess.run(DROP + "ip protocol udp numgen random mod 100 '<' 3 drop", shell=True, check=True)
        time.sleep(12)
        (status,) = run.stream.status()
    return {"received": status.received, "damaged": status.dropped["damaged"], "processed": status.processed}


def lose_all_tcp() -> dict[str, float]:
    """Everything, for 15 s, as if the cable were pulled."""
    with RtspServer(fps=10) as server, Watched(server.url) as run:
        run.wait_frame(timeout_s=20)
        subprocess.run(DROP + "ip protocol tcp drop", shell=True, check=True)
        gone = run.wait_state("stalled", "lost")
        time.sleep(15 - gone)
        subprocess.run("nft flush ruleset", shell=True, check=True)
        back = run.wait_frame(timeout_s=20)
    return {"gone_s": gone, "back_s": back}


if __name__ == "__main__":
    print(json.dumps({"udp": lose_some_udp, "tcp": lose_all_tcp}[sys.argv[1]]()))
