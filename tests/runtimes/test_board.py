"""Boards as described by their /proc, /sys and tools: a Pi 4, a Pi 5, a Jetson, an old PC, and this machine."""

from __future__ import annotations

import time

import pytest

from runtimes.board import Condition, Core, pick_cpus, read_board, read_condition, read_cores, throttling_between

TEGRASTATS = (
    "07-29-2026 18:00:27 RAM 2272/7620MB (lfb 4x4MB) SWAP 221/3810MB (cached 0MB) CPU [0%@729,off] GR3D_FREQ 0% "
    "cpu@54.937C gpu@55.468C tj@56.656C VDD_IN 4673mW/4600mW VDD_CPU_GPU_CV 527mW/527mW"
)


class TestIdentity:
    @pytest.mark.parametrize(
        ("name", "machine", "model", "processor", "cores", "features"),
        [
            ("pi4", "aarch64", "Raspberry Pi 4 Model B Rev 1.5", "Cortex-A72", 4, ("neon",)),
            ("pi5", "aarch64", "Raspberry Pi 5 Model B Rev 1.0", "Cortex-A76", 4, ("dotprod", "fp16", "neon")),
            (
                "orin", "aarch64", "NVIDIA Jetson Orin Nano Developer Kit", "Cortex-A78AE", 6,
                ("dotprod", "fp16", "neon"),
            ),
            ("pi3 of 32 bits", "armv7l", "Raspberry Pi 3 Model B Plus Rev 1.3", "Cortex-A53", 4, ()),
            (
                "old pc", "x86_64", "Dell Inc. OptiPlex 7040", "Intel(R) Core(TM) i5-6500 CPU @ 3.20GHz", 4,
                ("avx2",),
            ),
        ],
    )  # fmt: skip
    def test_board_is_recognized(self, plant_board, name, machine, model, processor, cores, features):
        board = read_board(plant_board(name), machine)
        assert (board.model, board.processor, board.cores, board.features) == (model, processor, cores, features)
        assert board.is_arm == (name != "old pc")

    def test_unlike_cores_are_counted(self, plant_board):
        parts = ("0xd05", "0xd05", "0xd05", "0xd0b")
        blocks = [f"processor : {n}\nCPU implementer : 0x41\nCPU part : {part}" for n, part in enumerate(parts)]
        board = read_board(plant_board("pi5", {"proc/cpuinfo": "\n\n".join(blocks)}), "aarch64")
        assert board.processor == "3x Cortex-A55 + 1x Cortex-A76"

    def test_kernel_of_a_pi_names_it_where_there_is_no_device_tree(self, tmp_path):
        (tmp_path / "proc").mkdir()
        core = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08"
        text = f"{core}\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
        (tmp_path / "proc/cpuinfo").write_text(text)
        board = read_board(tmp_path, "aarch64")
        assert (board.model, board.processor) == ("Raspberry Pi 4 Model B Rev 1.4", "Cortex-A72")

    def test_memory_is_no_part_of_the_identity(self, plant_board):
        small = read_board(plant_board("pi5"), "aarch64")
        large = read_board(plant_board("pi5", {"proc/meminfo": "MemTotal: 16000000 kB"}), "aarch64")
        assert small != large and small.identity == large.identity

    def test_empty_tree_is_no_error(self, tmp_path):
        board = read_board(tmp_path, "riscv64")
        assert (board.model, board.cores, board.memory_bytes, board.features) == ("riscv64", 1, 0, ())

    def test_this_machine_is_described(self):
        board = read_board()
        assert board.cores >= 1 and board.memory_bytes > 0 and board.model in str(board)


class TestCores:
    def test_hyperthreads_are_one_core(self, plant_board):
        folder = "sys/devices/system/cpu"
        siblings = {f"{folder}/cpu{n}/topology/thread_siblings_list": f"{n % 2},{n % 2 + 2}" for n in range(4)}
        cores = read_cores(plant_board("old pc", siblings), range(4))
        assert [core.cpus for core in cores] == [(0, 2), (1, 3)]
        assert pick_cpus(cores, 2) == (0, 1)
        assert pick_cpus(cores, 3) == (0, 1, 2, 3)

    def test_fast_cores_come_first(self, plant_board):
        capacity = {f"sys/devices/system/cpu/cpu{n}/cpu_capacity": "1024" if n > 1 else "446" for n in range(4)}
        assert pick_cpus(read_cores(plant_board("pi5", capacity), range(4)), 2) == (2, 3)

    def test_only_allowed_cpus_count(self, plant_board):
        assert read_cores(plant_board("pi5"), [3]) == (Core((3,), 2_400_000),)


class TestCondition:
    def test_pi(self, plant_board, plant_tool):
        plant_tool("vcgencmd", "echo throttled=0x50005")
        condition = read_condition(plant_board("pi4"))
        assert condition.temperature_c == pytest.approx(61.342)
        assert (condition.frequency_mhz, condition.max_frequency_mhz, condition.governor) == (600, 1800, "ondemand")
        assert condition.throttling == ("under-voltage", "throttled")
        assert condition.throttled_before == ("under-voltage", "throttled")

    @pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "echo"])
    def test_failing_tool_is_no_error(self, plant_board, plant_tool, script):
        plant_tool("vcgencmd", script)
        assert read_condition(plant_board("pi4")).throttling == ()

    def test_pi_without_its_tool_tells_by_file(self, plant_board):
        flags = {"sys/devices/platform/soc/soc:firmware/get_throttled": "80008"}
        condition = read_condition(plant_board("pi4", flags))
        assert condition.throttling == condition.throttled_before == ("soft temperature limit",)

    def test_fan_is_no_throttling(self, plant_board):
        assert read_condition(plant_board("pi5")).throttling == ()

    def test_lowered_clock_is_throttling(self, plant_board):
        device = "sys/class/thermal/cooling_device1"
        root = plant_board("pi5", {f"{device}/type": "thermal-cpufreq-0", f"{device}/cur_state": "3"})
        assert read_condition(root).throttling == ("clock lowered because of heat",)

    def test_jetson(self, plant_board, plant_tool):
        plant_tool("tegrastats", f"while true; do echo '{TEGRASTATS}'; sleep 0.1; done")
        plant_tool("nvpmodel", "echo 'NV Power Mode: 15W'; echo 0")
        start = time.monotonic()
        condition = read_condition(plant_board("orin"))
        assert time.monotonic() - start < 3
        assert condition.temperature_c == pytest.approx(51.031)
        assert (condition.power_w, condition.power_mode, condition.throttle_events) == (4.673, "15W", 1)
        assert (condition.allowed_frequency_mhz, condition.max_frequency_mhz) == (1510.4, 1728)

    def test_tegrastats_tells_the_temperature_where_no_zone_does(self, tmp_path, plant_tool):
        plant_tool("tegrastats", f"echo '{TEGRASTATS}'")
        assert read_condition(tmp_path).temperature_c == pytest.approx(54.937)

    def test_this_machine_is_no_error(self):
        assert isinstance(read_condition(), Condition)


class TestThrottlingBetween:
    def test_reasons_come_once(self):
        held = Condition(throttling=("throttled",))
        assert throttling_between(held, held) == ("throttled",)

    def test_short_event_leaves_its_sticky_bit(self):
        assert throttling_between(Condition(), Condition(throttled_before=("under-voltage",))) == ("under-voltage",)

    def test_earlier_throttling_does_not_count(self):
        old = Condition(throttled_before=("under-voltage",), throttle_events=5)
        assert throttling_between(old, old) == ()

    def test_kernel_counters_count(self):
        assert throttling_between(Condition(throttle_events=5), Condition(throttle_events=7)) == (
            "2 throttling events",
        )
