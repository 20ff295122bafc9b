"""Trains as two machines that meet on the loopback address: what `torchrun --nnodes 2` does, after one import for all.

`python two_machines.py PORT FOLDER train-arguments...`; machine N writes into FOLDER/N.
"""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from edge_mrcnn.cli.train import command


def train(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    command.main(arguments, standalone_mode=False)


def run_machine(number: int, port: str, folder: Path, arguments: list[str]) -> None:
    config = LaunchConfig(
        min_nodes=2,
        max_nodes=2,
        nproc_per_node=1,
        run_id="two machines",  # both have to give the same, as torchrun does
        rdzv_backend="static",
        rdzv_endpoint=f"127.0.0.1:{port}",
        rdzv_configs={"rank": number},
        start_method="fork",
        max_restarts=0,
        monitor_interval=0.1,
    )
    elastic_launch(config, train)([*arguments, "-o", str(folder / str(number))])


def main() -> None:
    port, folder, *arguments = sys.argv[1:]
    context = multiprocessing.get_context("fork")
    machines = []
    for number in range(2):
        machines.append(context.Process(target=run_machine, args=(number, port, Path(folder), arguments)))
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join()
    sys.exit(max(abs(machine.exitcode or 0) for machine in machines))


if __name__ == "__main__":
    main()
