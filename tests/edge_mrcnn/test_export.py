"""Export to ONNX and OpenVINO: the files give torch's detections, and a wrong file is rejected."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
onnx = pytest.importorskip("onnx", reason="pip install 'edge-mrcnn[export]'")
pytest.importorskip("onnxscript", reason="pip install 'edge-mrcnn[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'edge-mrcnn[onnx]'")
pytest.importorskip("openvino", reason="pip install 'edge-mrcnn[openvino]'")

import runtimes  # noqa: E402
from edge_mrcnn.export import operators, verify  # noqa: E402
from edge_mrcnn.export.onnx_target import convert  # noqa: E402
from edge_mrcnn.export.pipeline import adapt, export  # noqa: E402
from edge_mrcnn.export.settings import ExportConfig  # noqa: E402
from edge_mrcnn.model.checkpoint import file_sha256, load_checkpoint  # noqa: E402
from edge_mrcnn.reference import TorchRuntime, load_reference  # noqa: E402
from quantize.parts import QUANTIZED, part_of  # noqa: E402
from runtimes import golden  # noqa: E402
from runtimes.base import FakeRuntime, RawOutputs  # noqa: E402
from runtimes.errors import GateError, MissingFileError, ModelFileError, UsageError  # noqa: E402

TARGETS = ("onnx", "openvino")


@pytest.fixture(scope="module")
def reference(toy_checkpoint: Path) -> Iterator[TorchRuntime]:
    with load_reference(toy_checkpoint, "cpu") as runtime:
        yield runtime


@pytest.mark.parametrize("target", TARGETS)
def test_file_finds_what_torch_finds(
    toy_files: dict[str, Path], reference: TorchRuntime, noise_tensors: list[np.ndarray], target: str
) -> None:
    with runtimes.load(toy_files[target], threads=1) as artefact:
        parity = verify.compare(reference, artefact, noise_tensors, verify.FP32)
        counts = [len(artefact.run(tensor).scores) for tensor in noise_tensors]
    assert parity.passes(verify.FP32), parity
    assert parity.detections > 0 and max(counts) > 0


class Blind(NamedTuple):
    """Files of a model with a score threshold above all of its scores."""

    files: dict[str, Path]
    conversions: int
    """By torch's exporter, in making them."""


@pytest.fixture(scope="module")
def blind(toy_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Blind:
    config = ExportConfig(targets=TARGETS, score_threshold=0.9999999)
    before = convert.cache_info().misses
    files = export(toy_checkpoint, tmp_path_factory.mktemp("blind"), config)
    return Blind(dict(zip(TARGETS, files, strict=True)), convert.cache_info().misses - before)


@pytest.mark.parametrize("target", TARGETS)
def test_no_detections_give_no_rows(blind: Blind, target: str) -> None:
    with runtimes.load(blind.files[target], threads=1) as artefact:
        found = artefact.infer(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    assert len(found) == 0 and found.mask_probs.shape == (0, 28, 28)


def test_both_targets_are_made_of_one_conversion(blind: Blind) -> None:
    assert blind.conversions == 1


@pytest.mark.parametrize("target", TARGETS)
def test_card_travels_in_the_file(toy_files: dict[str, Path], toy_checkpoint: Path, target: str) -> None:
    card = runtimes.read_card(toy_files[target])
    assert (card.target, card.precision, card.classes) == (target, "fp32", ("square", "disc"))
    assert card.checkpoint_sha256 == file_sha256(toy_checkpoint)
    assert {"torch", target} <= set(card.versions)


def test_onnx_nodes_are_named_after_their_parts(toy_files: dict[str, Path]) -> None:
    nodes = onnx.load(toy_files["onnx"]).graph.node
    convolutions = [n.name for n in nodes if n.op_type in ("Conv", "Gemm", "ConvTranspose")]
    assert {part_of(name) for name in convolutions} >= set(QUANTIZED)
    assert not any(n.domain not in ("", "ai.onnx") for n in nodes)


def test_nothing_but_the_models_is_written(toy_files: dict[str, Path]) -> None:
    assert {p.name for p in toy_files["onnx"].parent.iterdir()} == {"toy.onnx", "toy.xml", "toy.bin"}


def test_settings_of_the_export_reach_model_and_card(toy_checkpoint: Path) -> None:
    config = ExportConfig(proposals=5, max_detections=3, score_threshold=0.2, iou_threshold=0.7, image_size_hw=(64, 64))
    adapted = adapt(load_checkpoint(toy_checkpoint), config)
    card = TorchRuntime(adapted, device="cpu").card
    assert (card.proposals, card.max_detections, card.input_size_hw) == (5, 3, (64, 64))
    assert (card.score_threshold, card.iou_threshold) == (0.2, 0.7)
    assert adapted.model.roi_heads.detections_per_img == 3


@pytest.mark.parametrize("targets", [("onnx", "coreml"), ()])
def test_unknown_target_names_the_known_ones(targets: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="onnx, openvino, tflite"):
        ExportConfig(targets=targets)


def test_int8_asks_for_pictures(toy_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--calib"):
        export(toy_checkpoint, tmp_path, ExportConfig(targets=("onnx",), int8=True))


def test_missing_and_damaged_checkpoints_leave_nothing(toy_checkpoint: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pt"
    cut.write_bytes(toy_checkpoint.read_bytes()[:2000])
    for path, kind in ((tmp_path / "none.pt", MissingFileError), (cut, ModelFileError)):
        with pytest.raises(kind):
            export(path, tmp_path / "out", ExportConfig(targets=("onnx",)))
    assert not (tmp_path / "out").exists()


def test_file_that_differs_is_kept_under_a_name_that_says_so(
    toy_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "FP32", verify.Tolerance(box_px=-1.0))
    with pytest.raises(GateError, match="failed"):
        export(toy_checkpoint, tmp_path, ExportConfig(targets=("openvino",)))
    assert {p.name for p in tmp_path.iterdir()} == {"toy.failed.xml", "toy.failed.bin"}


class TestVerify:
    @pytest.fixture
    def output(self, reference: TorchRuntime, noise_tensors: list[np.ndarray]) -> RawOutputs:
        return reference.run(noise_tensors[0])

    def compare(self, reference: TorchRuntime, tensor: np.ndarray, output: RawOutputs) -> verify.Parity:
        return verify.compare(reference, FakeRuntime(reference.card, lambda x: output), [tensor], verify.FP32)

    def test_equal_outputs_pass(self, reference, noise_tensors, output) -> None:
        parity = self.compare(reference, noise_tensors[0], output)
        assert parity.matched == parity.detections > 0
        assert (parity.box_px, parity.score, parity.mask) == (0, 0, 0)

    def test_unused_rows_do_not_count(self, reference, noise_tensors, output) -> None:
        padded = RawOutputs(*(np.concatenate([values, np.zeros_like(values[:2])]) for values in output))
        assert self.compare(reference, noise_tensors[0], padded).passes(verify.FP32)

    @pytest.mark.parametrize(("field", "change"), [("boxes", 0.5), ("scores", 0.01), ("masks", 0.01), ("labels", 1)])
    def test_any_difference_fails(self, reference, noise_tensors, output, field: str, change: float) -> None:
        values = getattr(output, field)
        wrong = output._replace(**{field: values + np.asarray(change, values.dtype)})
        assert not self.compare(reference, noise_tensors[0], wrong).passes(verify.FP32)

    def test_missing_detection_fails(self, reference, noise_tensors, output) -> None:
        assert not self.compare(reference, noise_tensors[0], RawOutputs(*(v[1:] for v in output))).passes(verify.FP32)

    def test_rounding_changes_nothing_in_a_model_whose_scores_differ(self, reference, noise_tensors, output) -> None:
        rounding = self.compare(reference, noise_tensors[0], reference.nudged().run(noise_tensors[0]))
        assert rounding.matched == rounding.detections
        assert verify.allow_rounding(verify.FP32, rounding) == verify.FP32

    def test_several_roundings_are_tried_and_the_worst_counts(self, reference) -> None:
        first, second = (reference.nudged(seed)._model.state_dict() for seed in (0, 1))
        assert any(not torch.equal(first[name], second[name]) for name in first)
        one = verify.Parity(images=4, detections=9, matched=9, surplus=1, box_px=2.0, score=0.1, mask=0.3)
        other = replace(one, matched=8, surplus=0, box_px=1.0, score=0.2)
        assert verify.worst_of([one, other]) == replace(one, matched=8, score=0.2)

    def test_where_rounding_decides_a_file_may_differ_twice_as_much(self) -> None:
        rounding = verify.Parity(images=4, detections=400, matched=396, surplus=4, box_px=20.0, score=0.001, mask=0.02)
        wider = verify.allow_rounding(verify.FP32, rounding)
        assert (wider.matched, wider.surplus) == (pytest.approx(0.98), pytest.approx(0.02))
        assert (wider.box_px, wider.score, wider.mask) == (40.0, 0.002, 0.04)
        lost = verify.allow_rounding(verify.FP32, replace(rounding, matched=100, surplus=300))
        assert (lost.matched, lost.surplus) == (verify.LEAST_MATCHED, pytest.approx(1 - verify.LEAST_MATCHED))

    @pytest.mark.parametrize(("field", "change"), [("boxes", 0.5), ("scores", 0.01), ("masks", 0.01)])
    def test_difference_of_all_detections_is_not_rounding(
        self, reference, noise_tensors, output, field: str, change: float
    ) -> None:
        wrong = output._replace(**{field: getattr(output, field) + np.float32(change)})
        usual = verify.typical(verify.FP32)
        artefact = FakeRuntime(reference.card, lambda x: wrong)
        assert not verify.compare(reference, artefact, noise_tensors[:1], usual).passes(usual)

    def test_verification_uses_an_empty_a_sparse_a_crowded_and_a_real_picture(self, reference: TorchRuntime) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (1, 64, 128, 3), dtype=np.uint8)
        for pictures, count in (([], 4), ([picture], 6), ([picture] * 3, 8)):
            inputs = verify.make_inputs(reference, pictures)
            assert len(inputs.tensors) == len(inputs.outputs) == count
            assert len(inputs.picture_outputs) == len(inputs.pictures)
            again = [reference.run(tensor) for tensor in inputs.tensors]
            assert [len(output.scores) for output in inputs.outputs] == [len(output.scores) for output in again]
            assert all(t.shape == (1, 64, 128, 3) and t.dtype == np.uint8 for t in inputs.tensors)
            (_, empty, _), (_, _, few), (_, _, many) = inputs.drawings
            assert np.ptp(empty) == 0 and 0 < len(few.scores) <= len(many.scores)


def test_golden_tensors_travel_in_each_file(toy_files: dict[str, Path], reference: TorchRuntime) -> None:
    for path in toy_files.values():
        with runtimes.load(path, threads=1) as artefact:
            total = golden.check(artefact, golden.read(path))[-1]
        assert total.passes and total.expected.detections > 0
        assert total.reference.matched == total.reference.detections > 0


class AlignedPool(torch.nn.Module):
    """RoIAlign as Detectron2 has it, of two levels and as many samples as a bin has cells."""

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        bounds = operators.level_bounds(2, 2, 60.0, 3)
        return operators.multiscale_roi_align([fine, coarse], boxes, [1 / 4, 1 / 8], bounds, 7, 0, None, True)


def test_onnx_says_aligned_roi_align_to_the_borders_of_each_level() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from edge_mrcnn.export.lowering.onnx_ops import translations

    rng = np.random.default_rng(0)
    low = rng.uniform(0, 1, (40, 2)) * (128, 96) * rng.integers(0, 2, (40, 2))  # half of them start at a border
    boxes = np.concatenate([low, np.minimum(low + rng.uniform(0.5, 90, (40, 2)), (128, 96))], 1).astype(np.float32)
    maps = [rng.normal(size=(1, 8, 96 // s, 128 // s)).astype(np.float32) for s in (4, 8)]
    inputs = (*map(torch.from_numpy, maps), torch.from_numpy(boxes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            AlignedPool(), inputs, dynamo=True, verbose=False, opset_version=18,
            custom_translation_table=translations(False), input_names=["fine", "coarse", "boxes"],
        )  # fmt: skip
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (found,) = session.run(None, {"fine": maps[0], "coarse": maps[1], "boxes": boxes})
    np.testing.assert_allclose(found, AlignedPool()(*inputs).numpy(), atol=1e-5)
