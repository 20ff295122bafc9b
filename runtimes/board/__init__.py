"""The machine under the model: its identity, and its current condition.

Everything is read from `/proc`, `/sys` and the board's own tools below a root folder, so that a test can use the file
tree of a Raspberry Pi or a Jetson. Missing information is None or empty, never an error.
"""

from runtimes.board.condition import Condition, read_condition, throttling_between
from runtimes.board.cores import Core, choose_threads, pick_cpus, read_cores, usable_cpus
from runtimes.board.identity import Board, read_board

__all__ = [
    "Board",
    "Condition",
    "Core",
    "choose_threads",
    "pick_cpus",
    "read_board",
    "read_condition",
    "read_cores",
    "throttling_between",
    "usable_cpus",
]
