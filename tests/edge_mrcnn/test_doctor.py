"""Diagnoses of boards that are given as a tree of files, and of this machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_mrcnn.doctor.diagnosis import Diagnosis, diagnose
from edge_mrcnn.doctor.facts import Probe, System, parse_version, read_facts, run_probes
from edge_mrcnn.doctor.rules import FIX, NOTE, RULES
from edge_mrcnn.doctor.text import WIDTH, to_text
from edge_mrcnn.doctor.wheels import fitting_wheels

GOOD = {
    "numpy": "2.4.6", "opencv-python-headless": "5.0.0.93", "onnxruntime": "1.31.1", "openvino": "2026.4.1",
    "ai-edge-litert": "2.3.0", "edge-mrcnn": "0.1",
}  # fmt: skip
PROBES = {
    "opencv": Probe({"gstreamer": False}),
    "onnx": Probe({"providers": ["CPUExecutionProvider"]}),
    "openvino": Probe({"devices": {"CPU": "ARM CPU"}}),
    "tflite": Probe(),
}


def make_system(machine: str = "aarch64", glibc: tuple[int, ...] = (2, 36), **changes: object) -> System:
    values = {"name": "Debian GNU/Linux 12 (bookworm)", "bits": 64, "libc": "glibc", "python": (3, 11, 2)}
    return System(machine=machine, libc_version=glibc, **{**values, **changes})


@pytest.fixture
def examine(plant_board):
    """A function (board, packages, system) that gives the diagnosis."""

    def run(name: str, packages: dict | None = None, system: System | None = None, **trees: str) -> Diagnosis:
        root = plant_board(name, trees.get("changes"))
        packages = GOOD if packages is None else packages
        return diagnose(read_facts(root, system=system or make_system(), packages=packages, probes=PROBES))

    return run


def severities(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.rule: finding.severity for finding in diagnosis.findings}


class TestBoards:
    def test_pi5_with_all_packages_is_well(self, examine):
        diagnosis = examine("pi5", {**GOOD, "picamera2": "0.3"})
        assert diagnosis.is_well and not diagnosis.fix_line and not diagnosis.add_line
        assert severities(diagnosis) == {"default precision": NOTE}

    def test_pi4_is_warned_of_its_processor(self, examine):
        diagnosis = examine("pi4")
        assert diagnosis.is_well
        assert set(severities(diagnosis)) == {"OpenVINO's INT8 without fp16", "governor", "picamera2"}

    def test_throttled_pi_needs_a_fix(self, examine, plant_tool):
        plant_tool("vcgencmd", "echo throttled=0x50005")
        diagnosis = examine("pi4")
        assert severities(diagnosis)["held back"] == FIX and "was held back" not in severities(diagnosis)

    def test_jetson_gets_advice_on_gpu_gstreamer_and_clock(self, examine):
        diagnosis = examine("orin", system=make_system(glibc=(2, 35), python=(3, 10, 12)))
        assert diagnosis.is_well and diagnosis.facts.jetpack == "R36.4.3"
        assert {"GStreamer", "Jetson's GPU", "capped clock"} <= set(severities(diagnosis))
        assert diagnosis.wheels["onnxruntime"] == "1.23.2" and diagnosis.wheels["numpy"] == "2.2.6"

    def test_jetpack_7_is_pointed_to_builds_for_cuda_13(self, examine, plant_board):
        root = plant_board("orin")
        (root / "etc/nv_tegra_release").write_text("# R38 (release), REVISION: 2.1, GCID: 1, BOARD: generic")
        system = make_system(glibc=(2, 39), python=(3, 12, 3))
        facts = read_facts(root, system=system, packages={"onnxruntime": "1.31.1"}, probes={})
        diagnosis = diagnose(facts)
        (found,) = [one for one in diagnosis.findings if one.rule.startswith("Jetson's GPU")]
        assert found.rule == "Jetson's GPU, JetPack 7" and "CUDA 13" in found.advice
        assert "Jetson Linux R38.2.1 (CUDA 13)" in to_text(diagnosis)

    def test_32_bits_are_refused_and_nothing_is_offered(self, examine):
        system = make_system("armv7l", bits=32)
        diagnosis = examine("pi3 of 32 bits", {"numpy": "1.24.2"}, system)
        assert not diagnosis.is_well and diagnosis.findings[0].rule == "32 bits"
        assert not diagnosis.wheels and not diagnosis.fix_line

    def test_32_bit_python_on_a_64_bit_kernel_is_detected(self, examine):
        assert "on a 64-bit kernel" in examine("pi4", system=make_system(bits=32)).findings[0].what

    def test_pc_without_vnni_is_warned(self, examine):
        diagnosis = examine("old pc", system=make_system("x86_64"))
        assert diagnosis.is_well and set(severities(diagnosis)) == {"no VNNI", "governor"}

    def test_cameras_are_found_and_codecs_are_none(self, examine):
        nodes = {
            "dev/video0": "", "sys/class/video4linux/video0/name": "HD Pro Webcam C920",
            "dev/video10": "", "sys/class/video4linux/video10/name": "bcm2835-codec-decode",
            "dev/hailo0": "",
        }  # fmt: skip
        facts = examine("pi5", changes=nodes).facts
        assert facts.cameras == ("/dev/video0 HD Pro Webcam C920",)
        assert facts.accelerators == ("/dev/hailo0 Hailo",)


class TestWheels:
    @pytest.mark.parametrize(
        ("glibc", "openvino"), [((2, 36), "2026.4.1"), ((2, 34), "2025.2.0"), ((2, 31), "2025.2.0"), ((2, 28), None)]
    )
    def test_glibc_decides_on_arm(self, glibc, openvino):
        assert fitting_wheels(make_system(glibc=glibc)).get("openvino") == openvino

    def test_too_old_glibc_is_refused(self, examine):
        diagnosis = examine("pi4", {}, make_system(glibc=(2, 24)))
        assert severities(diagnosis)["old system"] == FIX and not diagnosis.fix_line

    def test_musl_is_refused(self, examine):
        diagnosis = examine("pi4", {}, make_system(libc="musl", glibc=(1, 2)))
        assert severities(diagnosis)["C library"] == FIX

    def test_missing_runtimes_come_in_one_line_with_the_release_that_fits(self, examine):
        diagnosis = examine("pi4", {"numpy": "2.2.6"}, make_system(glibc=(2, 31)))
        assert severities(diagnosis)["no runtime"] == FIX
        assert diagnosis.fix_line == "pip install 'edge-mrcnn[onnx,openvino,tflite]' openvino==2025.2.0"

    def test_one_runtime_is_enough(self, examine):
        diagnosis = examine("pi5", {"numpy": "2.4.6", "ai-edge-litert": "2.3.0"})
        assert diagnosis.is_well and diagnosis.add_line == "pip install 'edge-mrcnn[onnx,openvino]'"


class TestCombinations:
    @pytest.mark.parametrize(
        ("version", "is_wrong"),
        [("2025.3.0", False), ("2025.4.1", True), ("2026.0.0", True), ("2026.1.0", True), ("2026.2.0", False)],
    )
    def test_wrong_openvino_on_arm(self, examine, version, is_wrong):
        packages = {**GOOD, "openvino": version}
        diagnosis = examine("pi5", packages)
        assert ("OpenVINO's INT8 on Arm" in severities(diagnosis)) == is_wrong
        assert diagnosis.fix_line == ("pip install 'openvino>=2026.2'" if is_wrong else "")
        assert "OpenVINO's INT8 on Arm" not in severities(examine("old pc", packages, make_system("x86_64")))

    def test_advice_fits_the_system(self, examine):
        diagnosis = examine("pi5", {**GOOD, "openvino": "2026.0.0"}, make_system(glibc=(2, 31)))
        assert diagnosis.fix_line == "pip install openvino==2025.2.0"

    @pytest.mark.parametrize(
        ("extra", "rule", "line"),
        [
            (
                {"opencv-python": "5.0.0.93"}, "two OpenCVs",
                "pip uninstall -y opencv-python-headless opencv-python && "
                "pip install opencv-python-headless",
            ),
            (
                {"runtimes": "0.3"}, "foreign package",
                "pip uninstall -y runtimes edge-mrcnn && pip install edge-mrcnn",
            ),
            (
                {"onnxruntime-gpu": "1.31.1"}, "two ONNX Runtimes",
                "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
            ),
            (
                {"opencv-python-headless": "4.9.0.80"}, "old OpenCV and NumPy 2",
                "pip install 'opencv-python-headless>=4.10'",
            ),
        ],
    )  # fmt: skip
    def test_conflicts_are_fixed_by_one_line(self, examine, extra, rule, line):
        diagnosis = examine("pi5", {**GOOD, **extra})
        assert severities(diagnosis)[rule] == FIX and diagnosis.fix_line == line

    @pytest.mark.parametrize(("numpy", "is_wrong"), [("2.1.0", True), ("1.26.4", False)])
    def test_tflite_runtime_needs_numpy_1(self, examine, numpy, is_wrong):
        diagnosis = examine("pi4", {"tflite-runtime": "2.14.0", "numpy": numpy})
        assert ("tflite-runtime and NumPy 2" in severities(diagnosis)) == is_wrong

    def test_package_that_does_not_start_is_named(self, plant_board):
        probes = {**PROBES, "openvino": Probe(error="crashes with SIGILL")}
        facts = read_facts(plant_board("pi4"), system=make_system(), packages=GOOD, probes=probes)
        finding = diagnose(facts).findings[0]
        assert (
            finding.severity == FIX
            and "OpenVINO is installed but cannot be imported: crashes with SIGILL" in finding.what
        )

    def test_every_rule_has_advice_and_source(self):
        assert len({rule.name for rule in RULES}) == len(RULES)
        assert all(rule.advice and rule.source and rule.severity in (FIX, NOTE) for rule in RULES)


class TestThisMachine:
    def test_runs_though_another_package_took_our_name(self):
        code = (
            "import sys, types; other = types.ModuleType('runtimes'); other.__path__ = ['runtimes'];"
            "sys.modules['runtimes'] = other; import edge_mrcnn.doctor.facts as facts; facts.PROBED = {};"
            "from edge_mrcnn.cli import main; sys.argv = ['edge-mrcnn', 'doctor', '--json']; main()"
        )
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
        assert '"is_well"' in done.stdout, done.stderr

    def test_probes_start_what_is_installed(self):
        found = run_probes({"opencv-python-headless": "5"})
        assert list(found) == ["opencv"] and not found["opencv"].error
        assert isinstance(found["opencv"].answer["gstreamer"], bool)

    def test_probe_of_a_missing_module_says_so(self, monkeypatch):
        monkeypatch.setattr("edge_mrcnn.doctor.facts.PROBES", {"openvino": "import no_such_module"})
        assert "no_such_module" in run_probes({"openvino": "1"})["openvino"].error

    def test_command_prints_and_its_code_follows_the_verdict(self, cli, monkeypatch):
        monkeypatch.setattr("edge_mrcnn.doctor.facts.run_probes", lambda packages: PROBES)
        outcome = cli("doctor", "--json")
        assert outcome.code == (0 if json.loads(outcome.out)["is_well"] else 3)

    def test_exit_code_is_3_if_something_needs_a_fix(self, cli, monkeypatch):
        broken = {**PROBES, "opencv": Probe(error="libGL.so.1: cannot open shared object file")}
        monkeypatch.setattr("edge_mrcnn.doctor.facts.run_probes", lambda packages: broken)
        outcome = cli("doctor")
        assert outcome.code == 3 and "libGL.so.1" in outcome.out and "to fix" in outcome.out


def test_text_fits_into_100_columns(examine):
    plain = re.sub(r"\x1b\[\d*m", "", to_text(examine("pi4", {"openvino": "2026.0.0", "numpy": "2.4.6"})))
    assert max(map(len, plain.splitlines())) <= WIDTH
    assert "Raspberry Pi 4" in plain and "to fix: pip install 'openvino>=2026.2'" in plain


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2026.4.1-1234", (2026, 4, 1)), ("1.19.0+cu12", (1, 19, 0)), ("", ()), ("5.0.0.93", (5, 0, 0))],
)
def test_versions_are_numbers(text, numbers):
    assert parse_version(text) == numbers
