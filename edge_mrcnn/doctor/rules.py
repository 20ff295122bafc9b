"""Known problems as a table: each rule has a function, advice and a source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_mrcnn.doctor.facts import OPENCVS, Facts
from edge_mrcnn.doctor.wheels import PYTHONS, fitting_wheels
from edge_mrcnn.measure.surroundings import runtime_packages
from runtimes.formats import FORMATS
from runtimes.known_faults import WRONG_ON_ARM

FIX, NOTE = "fix", "note"
SMALL_MEMORY = 1.5e9


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One possible problem."""

    name: str
    severity: str
    """"fix": must be fixed; "note": good to know."""
    find: Callable[[Facts], str]
    """Function that returns the problem as a sentence; empty if there is none."""
    advice: str
    source: str
    """Source of this knowledge."""
    install: tuple[str, ...] = ()
    """Requirements for pip that fix it."""
    uninstall: tuple[str, ...] = ()
    """Packages to uninstall."""


def _small_system(facts: Facts) -> str:
    if facts.system.bits == 64:
        return ""
    kernel = " on a 64-bit kernel" if facts.system.machine in ("aarch64", "x86_64") else ""
    return f"This is a 32-bit Python{kernel}; none of the runtimes has wheels for it"


def _musl(facts: Facts) -> str:
    if facts.system.libc == "glibc" or facts.system.bits != 64:
        return ""
    return f"The C library is {facts.system.libc or 'not glibc'}; the runtimes have no wheels for it"


def _old_glibc(facts: Facts) -> str:
    system = facts.system
    if system.libc != "glibc" or system.bits != 64 or "onnxruntime" in fitting_wheels(system):
        return ""
    return f"glibc {_dotted(system.libc_version)} is too old for all usable releases of the runtimes"


def _glibc_without_openvino(facts: Facts) -> str:
    wheels = fitting_wheels(facts.system)
    if "onnxruntime" not in wheels or "openvino" in wheels:
        return ""
    return f"OpenVINO has no usable release for glibc {_dotted(facts.system.libc_version)}"


def _untried_python(facts: Facts) -> str:
    oldest, newest = PYTHONS
    if oldest <= facts.system.python[:2] <= newest:
        return ""
    return f"Python {_dotted(facts.system.python)} is not tested; supported are {_dotted(oldest)} to {_dotted(newest)}"


def _no_runtime(facts: Facts) -> str:
    is_there = any(facts.has(name) for name in runtime_packages())
    return "" if is_there else "No runtime is installed, so no model can run"


def _broken_import(facts: Facts) -> str:
    broken = []
    for name, probe in facts.probes.items():
        if probe.error:
            title = FORMATS[name].title if name in FORMATS else name
            broken.append(f"{title} is installed but cannot be imported: {probe.error}")
    return "; ".join(broken)


def _wrong_openvino(facts: Facts) -> str:
    version = facts.version("openvino")
    if not facts.board.is_arm or not WRONG_ON_ARM[0] <= version[:2] < WRONG_ON_ARM[1]:
        return ""
    return f"OpenVINO {facts.packages['openvino']} silently computes wrong INT8 results on Arm"


def _openvino_without_fp16(facts: Facts) -> str:
    if not facts.board.is_arm or "fp16" in facts.board.features or not facts.has("openvino"):
        return ""
    return f"{facts.board.processor} has no half-precision arithmetic: OpenVINO's INT8 layers run in float here"


def _other_default_precision(facts: Facts) -> str:
    kind = "fp16" if facts.board.is_arm else "bf16"
    if not facts.has("openvino") or kind not in facts.board.features:
        return ""
    return f"By default, OpenVINO computes float layers in {kind} on this processor"


def _two_opencvs(facts: Facts) -> str:
    found = [name for name in OPENCVS if facts.has(name)]
    return f"{' and '.join(found)} are installed side by side and overwrite each other" if len(found) > 1 else ""


def _two_onnxruntimes(facts: Facts) -> str:
    if not facts.has("onnxruntime", "onnxruntime-gpu"):
        return ""
    return "onnxruntime and onnxruntime-gpu are installed side by side and overwrite each other"


def _foreign_package(facts: Facts) -> str:
    found = [name for name in ("runtimes", "quantize") if facts.has(name)]
    return f"The unrelated package {' and '.join(found)} from the package index replaces ours" if found else ""


def _old_tflite(facts: Facts) -> str:
    if not facts.has("tflite-runtime") or facts.has("ai-edge-litert") or facts.version("numpy") < (2,):
        return ""
    return f"tflite-runtime was built for NumPy 1 and cannot be imported with NumPy {facts.packages['numpy']}"


def _old_opencv(facts: Facts) -> str:
    old = [name for name in OPENCVS if facts.has(name) and facts.version(name) < (4, 10)]
    if not old or facts.version("numpy") < (2,):
        return ""
    versions = facts.packages
    return f"{old[0]} {versions[old[0]]} was built for NumPy 1 and cannot be imported with NumPy {versions['numpy']}"


def _old_onnx(facts: Facts) -> str:
    if not facts.has("onnx") or facts.version("onnx") >= (1, 21):
        return ""
    return f"onnx {facts.packages['onnx']} can read files outside a model's folder"


def _no_vnni(facts: Facts) -> str:
    if facts.board.is_arm or facts.system.machine != "x86_64" or "vnni" in facts.board.features:
        return ""
    return "This processor has no VNNI: sums of full-range INT8 weights can saturate, and INT8 gains less speed"


def _held_back(facts: Facts) -> str:
    reasons = facts.condition.throttling
    return f"The processor is throttled now: {', '.join(reasons)}" if reasons else ""


def _was_held_back(facts: Facts) -> str:
    reasons = [r for r in facts.condition.throttled_before if r not in facts.condition.throttling]
    return f"The board was throttled since it started: {', '.join(reasons)}" if reasons else ""


def _lazy_governor(facts: Facts) -> str:
    governor = facts.condition.governor
    return f"The CPU frequency governor is {governor}" if governor in ("powersave", "ondemand", "conservative") else ""


def _capped_clock(facts: Facts) -> str:
    allowed, highest = facts.condition.allowed_frequency_mhz, facts.condition.max_frequency_mhz
    if allowed is None or highest is None or allowed >= highest:
        return ""
    mode = f" (power mode {facts.condition.power_mode})" if facts.condition.power_mode else ""
    return f"The clock is limited to {allowed:.0f} of {highest:.0f} MHz{mode}"


def _little_memory(facts: Facts) -> str:
    memory = facts.board.memory_bytes
    return f"The board has only {memory / 1e9:.1f} GB of memory" if 0 < memory < SMALL_MEMORY else ""


def _no_picamera2(facts: Facts) -> str:
    if not facts.board.model.startswith("Raspberry Pi") or facts.has_picamera2:
        return ""
    return "picamera2, which reads CSI ribbon cameras, cannot be imported from this Python"


def _no_gstreamer(facts: Facts) -> str:
    answer = facts.probes["opencv"].answer if "opencv" in facts.probes else {}
    if not facts.jetpack or answer.get("gstreamer", True):
        return ""
    return "This OpenCV has no GStreamer, which CSI ribbon cameras of a Jetson need"


def _no_gpu_provider(facts: Facts) -> str:
    if not facts.jetpack or not facts.has("onnxruntime"):
        return ""
    providers = facts.probes["onnx"].answer.get("providers", []) if "onnx" in facts.probes else []
    if any(name.startswith(("CUDA", "Tensorrt")) for name in providers):
        return ""
    return "This ONNX Runtime does not use the Jetson's GPU"


def _no_gpu_before_7(facts: Facts) -> str:
    return "" if facts.has_cuda_13 else _no_gpu_provider(facts)


def _no_gpu_from_7(facts: Facts) -> str:
    return _no_gpu_provider(facts) if facts.has_cuda_13 else ""


RULES = (
    Rule(
        name="32 bits", severity=FIX, find=_small_system,
        advice="install the 64-bit edition of the operating system",
        source="package index: no armv7 wheels of numpy, OpenCV, onnxruntime, openvino or ai-edge-litert",
    ),
    Rule(
        name="C library", severity=FIX, find=_musl,
        advice="use a system with glibc, such as Debian, Ubuntu or Raspberry Pi OS",
        source="package index: manylinux wheels only",
    ),
    Rule(
        name="old system", severity=FIX, find=_old_glibc,
        advice="update the operating system: Raspberry Pi OS Bookworm or newer, JetPack 6, Ubuntu 22.04",
        source="doctor/wheels.py",
    ),
    Rule(
        name="no OpenVINO", severity=NOTE, find=_glibc_without_openvino,
        advice="use the .onnx or .tflite, or update the operating system",
        source="doctor/wheels.py",
    ),
    Rule(
        name="Python", severity=NOTE, find=_untried_python,
        advice="use a Python in this range: all runtimes have wheels for it",
        source="doctor/wheels.py",
    ),
    Rule(
        name="no runtime", severity=FIX, find=_no_runtime,
        advice=f"install one of the extras {', '.join(format_.extra for format_ in FORMATS.values())}",
        source="README",
    ),
    Rule(
        name="broken package", severity=FIX, find=_broken_import,
        advice="reinstall it; a GUI build of OpenCV needs desktop libraries, the headless build does not",
        source="each package is imported in a process of its own",
    ),
    Rule(
        name="OpenVINO's INT8 on Arm", severity=FIX, find=_wrong_openvino,
        advice="install openvino 2026.2 or newer, or 2025.3; ONNX Runtime and LiteRT are correct there",
        source="https://github.com/openvinotoolkit/openvino/issues/34673, and emulated Raspberry Pi 4 and 5",
        install=("openvino>=2026.2",),
    ),
    Rule(
        name="OpenVINO's INT8 without fp16", severity=NOTE, find=_openvino_without_fp16,
        advice="for INT8 prefer the .onnx or .tflite; edge-mrcnn sets LP_TRANSFORMS_MODE=False for OpenVINO",
        source="emulated Raspberry Pi 4: OpenVINO 2026.2 and 2026.4 refuse INT8 convolutions",
    ),
    Rule(
        name="default precision", severity=NOTE, find=_other_default_precision,
        advice="edge-mrcnn sets f32, the precision of the report; precision='auto' is faster, and "
        "`edge-mrcnn tune --openvino-precision both` measures it",
        source="OpenVINO's INFERENCE_PRECISION_HINT",
    ),
    Rule(
        name="two OpenCVs", severity=FIX, find=_two_opencvs,
        advice="keep only opencv-python-headless",
        source="README of opencv-python: install only one of these packages",
        install=("opencv-python-headless",),
        uninstall=OPENCVS,
    ),
    Rule(
        name="two ONNX Runtimes", severity=FIX, find=_two_onnxruntimes,
        advice="keep only one of them",
        source="https://onnxruntime.ai/docs/install/",
        install=("onnxruntime-gpu",),
        uninstall=("onnxruntime", "onnxruntime-gpu"),
    ),
    Rule(
        name="foreign package", severity=FIX, find=_foreign_package,
        advice="uninstall it, then reinstall edge-mrcnn: both install to the same folder",
        source="the unrelated package named runtimes on the package index",
        install=("edge-mrcnn",),
        uninstall=("runtimes", "quantize", "edge-mrcnn"),
    ),
    Rule(
        name="tflite-runtime and NumPy 2", severity=FIX, find=_old_tflite,
        advice="install its successor, ai-edge-litert, or numpy<2",
        source="tflite-runtime 2.14.0, its last release, is built for NumPy 1 and Python 3.11",
        install=("edge-mrcnn[tflite]",),
        uninstall=("tflite-runtime",),
    ),
    Rule(
        name="old OpenCV and NumPy 2", severity=FIX, find=_old_opencv,
        advice="install OpenCV 4.10 or newer",
        source="https://github.com/opencv/opencv-python/releases: NumPy 2 since 4.10.0.84",
        install=("opencv-python-headless>=4.10",),
    ),
    Rule(
        name="unsafe onnx", severity=NOTE, find=_old_onnx,
        advice="install onnx 1.21 or newer before you open untrusted models",
        source="CVE-2026-27489, CVE-2026-34445, CVE-2025-51480",
    ),
    Rule(
        name="no VNNI", severity=NOTE, find=_no_vnni,
        advice="measure accuracy and speed on this machine, with `edge-mrcnn tune`",
        source="https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html",
    ),
    Rule(
        name="held back", severity=FIX, find=_held_back,
        advice="under-voltage: use the official power supply and a short cable; heat: add cooling",
        source="https://www.raspberrypi.com/documentation/computers/os.html#get_throttled",
    ),
    Rule(
        name="was held back", severity=NOTE, find=_was_held_back,
        advice="check it under load: `edge-mrcnn benchmark --sustained 10`",
        source="https://www.raspberrypi.com/documentation/computers/os.html#get_throttled",
    ),
    Rule(
        name="governor", severity=NOTE, find=_lazy_governor,
        advice="for a steady latency: "
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        source="https://docs.kernel.org/admin-guide/pm/cpufreq.html",
    ),
    Rule(
        name="capped clock", severity=NOTE, find=_capped_clock,
        advice="on a Jetson: sudo nvpmodel -m 0 && sudo jetson_clocks",
        source="NVIDIA Jetson Linux Developer Guide, Platform Power and Performance",
    ),
    Rule(
        name="memory", severity=NOTE, find=_little_memory,
        advice="prefer the .tflite, which needs the least memory, and close other programs",
        source="`edge-mrcnn benchmark` shows the memory of each model",
    ),
    Rule(
        name="picamera2", severity=NOTE, find=_no_picamera2,
        advice="sudo apt install python3-picamera2, and create the environment with python3 -m venv "
        "--system-site-packages; USB and network cameras do not need it",
        source="https://github.com/raspberrypi/picamera2: it comes from apt, not from the index",
    ),
    Rule(
        name="GStreamer", severity=NOTE, find=_no_gstreamer,
        advice="USB and network cameras work; for a ribbon camera use JetPack's OpenCV (python3-opencv)",
        source="cv2.getBuildInformation(): wheels of the index say GStreamer: NO",
    ),
    Rule(
        name="Jetson's GPU", severity=NOTE, find=_no_gpu_before_7,
        advice="for the GPU install NVIDIA's onnxruntime-gpu for this JetPack (CUDA 12), then use --device tensorrt",
        source="https://onnxruntime.ai/docs/install/: wheels of the index for aarch64 are for the CPU",
    ),
    Rule(
        name="Jetson's GPU, JetPack 7", severity=NOTE, find=_no_gpu_from_7,
        advice="for the GPU install onnxruntime-gpu for CUDA 13 on Arm (see the issue), then use --device tensorrt",
        source="https://github.com/microsoft/onnxruntime/issues/27944",
    ),
)  # fmt: skip
"""In order: rules about what prevents everything come first."""


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
