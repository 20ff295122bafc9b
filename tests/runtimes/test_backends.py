"""The contract of every runtime, on a real model file of each format."""

from __future__ import annotations

import contextlib
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import runtimes
from runtimes import ImageError, MissingFileError, ModelFile, ModelFileError, UnknownFormatError, UsageError
from runtimes.formats import format_of, suffixes
from runtimes.seal import write_seal

ROOT = Path(__file__).parents[2]
SDKS = {".onnx": "onnxruntime", ".xml": "openvino", ".tflite": "ai_edge_litert"}
FILES = ("toy.onnx", "toy.xml", "toy.bin", "toy.tflite")


def plain(count: int, height: int = 64, width: int = 96) -> np.ndarray:
    """A picture in which the toy models find `count` objects."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = count
    return image


@pytest.fixture(params=suffixes())
def suffix(request) -> str:
    pytest.importorskip(SDKS[request.param], reason=f"needs edge-mrcnn[{format_of(f'model{request.param}').extra}]")
    return request.param


@pytest.fixture
def model(suffix, model_files):
    with runtimes.load(model_files[suffix], threads=1) as runtime:
        yield runtime


class TestContract:
    @pytest.mark.parametrize("count", [1, 3, 4, 5, 6])
    def test_finds_what_is_there(self, model, scene, count):
        found = model.infer(plain(count))
        assert len(found) == count
        np.testing.assert_allclose(found.boxes_xyxy, scene.boxes[:count], atol=1e-5)
        np.testing.assert_allclose(found.scores, scene.scores[:count], atol=1e-6)
        np.testing.assert_array_equal(found.labels, scene.labels[:count])
        np.testing.assert_allclose(found.mask_probs, scene.masks[:count], atol=1e-5)

    def test_empty_scene_gives_empty_detections(self, model):
        found = model.infer(plain(0))
        assert len(found) == 0
        assert found.mask_probs.shape == (0, 14, 14)
        assert found.to_coco(1) == []

    def test_types_are_the_same_everywhere(self, model):
        found = model.infer(plain(2))
        types = [a.dtype for a in (found.boxes_xyxy, found.scores, found.labels, found.mask_probs)]
        assert types == [np.float32, np.float32, np.int64, np.float32]

    def test_boxes_are_in_pixels_of_the_source(self, model, scene):
        found = model.infer(plain(2, 128, 192))
        np.testing.assert_allclose(found.boxes_xyxy, 2 * scene.boxes[:2], atol=1e-4)
        assert found.orig_shape == (128, 192)

    def test_outputs_survive_the_next_run(self, model, scene):
        first = model.infer(plain(3))
        model.infer(plain(6))
        np.testing.assert_allclose(first.boxes_xyxy, scene.boxes[:3], atol=1e-5)
        np.testing.assert_allclose(first.mask_probs, scene.masks[:3], atol=1e-5)

    def test_counts_time_of_each_stage(self, model):
        speed = model.infer(plain(1)).speed
        assert list(speed) == ["preprocess", "inference", "postprocess"]
        assert all(ms >= 0 for ms in speed.values())

    def test_carries_its_card(self, model, scene, suffix, model_files):
        assert model.card.classes == scene.card.classes
        assert runtimes.read_card(model_files[suffix]) == model.card

    @pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), plain(0)[:0]])
    def test_refuses_what_is_not_an_image(self, model, image):
        with pytest.raises(ImageError, match="expected an image"):
            model.infer(image)

    def test_close_twice_is_harmless(self, model):
        model.close()
        model.close()


class TestDamage:
    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.97, 0.999])
    def test_cut_file_is_refused_in_one_line(self, model_files, tmp_path, name, share):
        path = copy_models(model_files, tmp_path) / name
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        expect_refusal(path.with_suffix(".xml") if path.suffix == ".bin" else path)

    def test_text_with_the_suffix_of_a_model_is_refused(self, suffix, tmp_path):
        path = tmp_path / f"notes{suffix}"
        path.write_text("not a model\n" * 100)
        path.with_suffix(".bin").write_bytes(b"")
        expect_refusal(path)

    def test_flipped_bits_in_a_tflite_file_are_noticed(self, model_files, tmp_path):
        path = tmp_path / "flipped.tflite"
        data = bytearray(model_files[".tflite"].read_bytes())
        data[len(data) // 3] ^= 0x10
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match="damaged"):
            runtimes.load(path)

    def test_model_of_another_tool_is_refused(self, suffix, model_files, tmp_path):
        path = copy_models(model_files, tmp_path) / f"toy{suffix}"
        remove_card(path)
        with pytest.raises(ModelFileError, match="edge-mrcnn export"):
            runtimes.load(path)
        with pytest.raises(ModelFileError, match="edge-mrcnn export"):
            runtimes.read_card(path)

    def test_card_that_contradicts_the_graph_is_refused(self, model_files, tmp_path):
        path = Path(shutil.copy(model_files[".tflite"], tmp_path))
        file = ModelFile(path)
        file.write_card(file.card.updated(input_size_hw=(32, 32)))
        with pytest.raises(ModelFileError, match="export it again"):
            runtimes.load(path)

    def test_model_that_does_not_run_is_found_when_it_is_loaded(self, model_files, scene, tmp_path):
        import onnx

        model = onnx.load(model_files[".onnx"])
        (count,) = (i for i in model.graph.initializer if i.name == "all_masks")
        count.CopyFrom(onnx.numpy_helper.from_array(scene.masks[:, :3], "all_masks"))
        onnx.save(model, tmp_path / "odd.onnx")
        write_seal(tmp_path / "odd.onnx")
        with pytest.raises(ModelFileError, match="cannot run"):
            runtimes.load(tmp_path / "odd.onnx")

    def test_mutilated_file_never_breaks_out_of_our_errors(self, suffix, model_files, tmp_path):
        path = copy_models(model_files, tmp_path) / f"toy{suffix}"
        code = "\n".join([MUTANT_IMPORTS, inspect.getsource(open_mutants), f"open_mutants({str(path)!r})"])
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert result.returncode == 0, result.stderr
        assert result.stdout == "25 mutants\n"


MUTANT_IMPORTS = "import contextlib\nfrom pathlib import Path\nimport numpy as np\nimport runtimes"


def open_mutants(path):
    """Flip bits of a model file in 25 ways and use each; runs in a process of its own, which a crash may end."""
    original = np.frombuffer(Path(path).read_bytes(), np.uint8)
    for seed in range(25):
        rng = np.random.default_rng(seed)
        data = original.copy()
        data[rng.integers(0, len(data), 40)] ^= (1 << rng.integers(0, 8, 40)).astype(np.uint8)
        Path(path).write_bytes(data.tobytes())
        with contextlib.suppress(runtimes.ModelFileError), runtimes.load(path, threads=1) as model:
            height, width = model.card.input_size_hw
            model.infer(np.full((min(height, 4096), min(width, 4096), 3), 90, np.uint8))
    print("25 mutants")


class TestLoad:
    def test_missing_sdk_names_the_extra(self, suffix, model_files):
        sdks = "['onnxruntime', 'openvino', 'ai_edge_litert', 'tflite_runtime']"
        code = (
            f"import sys; sys.modules.update(dict.fromkeys({sdks})); import runtimes\n"
            f"try: runtimes.load({str(model_files[suffix])!r})\n"
            "except runtimes.MissingExtraError as error: print(error)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert f"pip install 'edge-mrcnn[{format_of(f'model{suffix}').extra}]'" in result.stdout

    def test_missing_file(self):
        with pytest.raises(MissingFileError, match=r"nowhere\.onnx"):
            runtimes.load("nowhere.onnx")

    def test_unknown_suffix(self, tmp_path):
        with pytest.raises(UnknownFormatError, match=r"\.onnx, \.xml, \.tflite"):
            runtimes.load(tmp_path / "model.pt")

    def test_weights_file_names_the_model_file(self, tmp_path):
        with pytest.raises(UnknownFormatError, match=r"give model\.xml"):
            runtimes.load(tmp_path / "model.bin")

    def test_folder_names_the_models_in_it(self, model_files, tmp_path):
        copy_models(model_files, tmp_path)
        with pytest.raises(UnknownFormatError, match=r"give one of toy\.onnx, toy\.tflite, toy\.xml"):
            runtimes.load(tmp_path)

    def test_missing_weights_are_named(self, model_files, tmp_path):
        with pytest.raises(MissingFileError, match=r"toy\.bin"):
            runtimes.load(shutil.copy(model_files[".xml"], tmp_path))

    @pytest.mark.parametrize(
        ("suffix", "options"),
        [
            (".onnx", {"providers": ["NoProvider"]}),
            (".xml", {"device": "XPU"}),
            (".xml", {"precision": "f8"}),
            (".xml", {"streams": 0}),
        ],
        indirect=["suffix"],
    )
    def test_impossible_option_is_a_usage_error(self, suffix, options, model_files):
        with pytest.raises(UsageError):
            runtimes.load(model_files[suffix], **options)

    def test_openvino_may_choose_the_precision(self, model_files):
        with runtimes.load(model_files[".xml"], precision="auto") as model:
            assert len(model.infer(plain(2))) == 2

    def test_tflite_card_is_replaced_not_repeated(self, model_files, scene, tmp_path):
        path = Path(shutil.copy(model_files[".tflite"], tmp_path))
        ModelFile(path).write_card(scene.card.updated(name="a"))
        size = path.stat().st_size
        ModelFile(path).write_card(scene.card.updated(name="b"))
        assert (runtimes.read_card(path).name, path.stat().st_size) == ("b", size)


def expect_refusal(path: Path) -> None:
    with pytest.raises((ModelFileError, MissingFileError)) as caught:
        runtimes.load(path)
    assert str(path.stem) in str(caught.value)
    assert "\n" not in str(caught.value)


def copy_models(model_files: dict[str, Path], folder: Path) -> Path:
    for suffix in suffixes():
        shutil.copy(model_files[suffix], folder)
    shutil.copy(model_files[".xml"].with_suffix(".bin"), folder)
    return folder


def remove_card(path: Path) -> None:
    """Make a model file look as another tool writes it."""
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load(path)
        del model.metadata_props[:]
        onnx.save(model, path)
    elif path.suffix == ".xml":
        path.write_text(path.read_text().replace("edge_mrcnn", "other_tool"))
    else:
        from runtimes.formats.tflite_format import strip_notes

        path.write_bytes(strip_notes(path.read_bytes()))


def test_signals_are_handled_when_models_are_gone(suffix, model_files) -> None:
    code = f"""
import gc, signal, runtimes
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
first, second = (runtimes.load({str(model_files[suffix])!r}, threads=1) for _ in range(2))
first.close(); del first; gc.collect()
second.close(); del second; gc.collect()
signal.raise_signal(signal.SIGUSR1)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result
    assert result.stdout == "handled\n"
