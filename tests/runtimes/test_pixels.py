from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
from stream_servers import MjpegServer

from runtimes import FakeRuntime, UsageError, preprocess
from runtimes.errors import UnavailableError
from runtimes.preprocess import letterbox
from runtimes.sources import Frame, open_source
from runtimes.sources.pixels import AvPixels, MissingPixels, RgbPixels, make_scaler, view_rgb
from runtimes.sources.reader import camera, mjpeg, network, scaling
from runtimes.sources.reader.outlet import Trouble
from runtimes.sources.reader.shots import BrokenFrameError, wrap_frame
from runtimes.sources.shared_memory import PIECES, SharedMemory, SharedPixels
from runtimes.stream import Stream

av = pytest.importorskip("av", reason="pip install 'edge-mrcnn[stream]'")

WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""FFmpeg's number of a matrix -> the shares of red and blue in its luma (ITU-R BT.709, BT.601, BT.2020)."""


def paint(size_hw=(360, 640), seed=0) -> np.ndarray:
    """Smooth shades in three planes, none of which leaves the range of RGB."""
    shades = np.random.default_rng(seed).integers(90, 166, (9, 16, 3), np.uint8)
    return cv2.resize(shades, size_hw[::-1], interpolation=cv2.INTER_CUBIC)


def make_frame(form: str, yuv: np.ndarray, colorspace: int = 2, color_range: int = 0):
    """A frame of planes Y, U and V, in FFmpeg's pixel format of that name."""
    height, width = yuv.shape[:2]
    frame = av.VideoFrame(width, height, form)
    frame.colorspace, frame.color_range = colorspace, color_range
    y, u, v = cv2.split(yuv)
    for index, plane in enumerate(frame.planes):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        chroma = [cv2.resize(part, (width // 2, plane.height), interpolation=cv2.INTER_AREA) for part in (u, v)]
        if form == "yuyv422":
            rows[:, 0 : 2 * width : 2], rows[:, 1 : 2 * width : 4], rows[:, 3 : 2 * width : 4] = y, *chroma
        elif form == "nv12" and index:
            rows[:, 0:width:2], rows[:, 1:width:2] = chroma
        else:
            part = (y, u, v)[index]
            rows[:, : plane.width] = cv2.resize(part, (plane.width, plane.height), interpolation=cv2.INTER_AREA)
    return frame


def convert(yuv: np.ndarray, matrix: int, *, is_full: bool) -> np.ndarray:
    """RGB by the definition, (H, W, 3) float."""
    red, blue = WEIGHTS[matrix]
    y, u, v = cv2.split(yuv.astype(np.float32))
    if not is_full:
        y, u, v = (y - 16) * 255 / 219, 128 + (u - 128) * 255 / 224, 128 + (v - 128) * 255 / 224
    r, b = y + 2 * (1 - red) * (v - 128), y + 2 * (1 - blue) * (u - 128)
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], axis=-1), 0, 255)


def decibels(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal to noise ratio."""
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((image.astype(float) - reference) ** 2))))


@pytest.mark.parametrize("form", ["yuv420p", "yuvj420p", "yuv422p", "nv12", "yuyv422", "yuv444p"])
@pytest.mark.parametrize("matrix", [1, 5, 9])
def test_small_picture_has_the_colours_of_matrix_and_range(form, matrix):
    for color_range in (1, 2):
        if form.startswith("yuvj") and color_range == 1:
            continue
        yuv = paint((180, 320)).repeat(2, axis=0).repeat(2, axis=1)  # so that colours of half the resolution are exact
        frame = make_frame(form, yuv, matrix, color_range)
        small = view_rgb(make_scaler().scale(frame, (90, 160)))
        halved = cv2.resize(yuv, (160, 90), interpolation=cv2.INTER_AREA)
        exact = convert(halved, matrix, is_full=color_range == 2)
        assert decibels(small, exact) > 46
        assert np.abs((small - exact).mean((0, 1))).max() < 0.6  # no shade is rounded down as a whole


def test_a_source_that_says_nothing_is_read_as_its_whole_picture_is():
    frame = make_frame("yuv420p", paint())
    whole = AvPixels(frame).rgb()
    small = view_rgb(make_scaler().scale(frame, (90, 160)))
    assert decibels(small, cv2.resize(whole, (160, 90), interpolation=cv2.INTER_AREA)) > 44


@pytest.mark.parametrize("source_hw", [(360, 640), (480, 640), (432, 768), (720, 1280), (1080, 1920), (972, 1296)])
def test_small_picture_is_as_near_to_the_exact_one_as_the_letterbox_of_the_whole(source_hw):
    noise = np.random.default_rng(0).integers(-20, 21, source_hw, np.int16)[..., None]
    image = np.clip(paint(source_hw) + noise, 0, 255).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv444p")
    planes = frame.to_ndarray(channel_last=True)
    exact = np.rint(convert(planes, 5, is_full=False)).astype(np.uint8)
    card = FakeRuntime().card
    height, width = preprocess.fit_size(source_hw, card.input_size_hw)
    reference = letterbox(exact, card)[0][0][:height, :width]
    before = letterbox(frame.to_ndarray(format="rgb24"), card)[0][0][:height, :width]
    small = AvPixels(frame).for_model(make_scaler(), card.input_size_hw)
    assert decibels(small, reference) > min(44.0, decibels(before, reference) - 1)


def test_the_reading_process_fits_sizes_as_the_letterbox_does():
    sides = (1, 33, 240, 481, 1080, 4000)
    for source_hw in itertools.product(sides, sides):
        for input_hw in ((320, 320), (64, 96), (480, 640)):
            assert scaling.fit_size(source_hw, input_hw) == preprocess.fit_size(source_hw, input_hw)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turned_picture_is_small_in_the_same_way(turns):
    pixels = AvPixels(make_frame("yuv420p", paint()), turns)
    assert pixels.size_hw == ((360, 640) if turns == 2 else (640, 360))
    small = pixels.for_model(make_scaler(), (96, 96))
    assert small.shape == ((54, 96, 3) if turns == 2 else (96, 54, 3))
    whole = pixels.rgb()
    assert decibels(small, cv2.resize(whole, small.shape[1::-1], interpolation=cv2.INTER_AREA)) > 42


def test_resized_is_the_same_before_and_after_rgb_is_made():
    pixels = AvPixels(make_frame("yuv420p", paint()))
    before = pixels.resized((180, 320))
    assert pixels.rgb() is pixels.rgb()
    assert decibels(before, pixels.resized((180, 320))) > 42
    assert pixels.resized((360, 640)) is not pixels.rgb()


class TestFrame:
    def test_image_is_made_when_it_is_read_and_stays(self):
        frame = Frame(AvPixels(make_frame("yuv420p", paint())), 0, 0.0, "camera")
        assert frame.size_hw == (360, 640) and frame.pixels._rgb is None
        assert frame.image.shape == (360, 640, 3) and frame.image is frame.image

    def test_array_goes_in_and_out(self):
        image = np.zeros((4, 6, 3), np.uint8)
        frame = Frame(image=image, index=1, time_s=0.5, name="x")
        assert frame.image is image and frame.size_hw == (4, 6)
        assert replace(frame, index=2).image is image
        assert replace(frame, image=image + 1).image[0, 0, 0] == 1

    def test_picture_that_was_not_kept_says_so(self):
        frame = Frame(MissingPixels((4, 6)), 0, 0.0, "camera")
        assert frame.size_hw == (4, 6) and not frame.pixels.is_kept
        with pytest.raises(UnavailableError, match="was not kept"):
            _ = frame.image


class TestSharedMemory:
    FIELDS = {"size_hw": [2, 3], "form": "rgb24", "colorspace": 2, "color_range": 0, "planes": [[0, 2, 16]]}

    def put(self, memory: SharedMemory, value: int) -> SharedPixels:
        """Write as the reading process does, and take."""
        piece = memory.choose()
        with open(memory.descriptors[piece], "wb", closefd=False) as file:
            file.seek(0)
            file.write(bytes([value]) * 32)
        return memory.take_whole(piece, self.FIELDS)

    def test_pictures_that_are_kept_are_never_written_over(self):
        memory = SharedMemory()
        kept = [self.put(memory, value) for value in range(3 * PIECES)]
        assert [int(pixels.rgb()[1, 2, 2]) for pixels in kept] == list(range(3 * PIECES))
        memory.close()

    def test_buffer_is_reused_after_its_picture_is_freed(self):
        memory = SharedMemory()
        first = [self.put(memory, value) for value in range(PIECES)]
        del first[2]
        piece = memory.choose()
        assert piece == 2 and not any(pixels.has_own_memory for pixels in first)
        memory.close()
        assert int(first[0].rgb()[0, 0, 0]) == 0

    def test_planes_come_back_as_the_frame_that_they_were(self):
        frame = make_frame("yuv420p", paint((46, 66)), 1, 2)
        memory = SharedMemory()
        piece, places, data = memory.choose(), [], b""
        for plane in frame.planes:
            places.append([len(data), plane.height, plane.line_size])
            data += bytes(plane)
        with open(memory.descriptors[piece], "wb", closefd=False) as file:
            file.write(data)
        fields = {"size_hw": [46, 66], "form": "yuv420p", "colorspace": 1, "color_range": 2, "planes": places}
        pixels = memory.take_whole(piece, fields)
        assert np.array_equal(pixels.rgb(), AvPixels(frame).rgb())
        memory.close()


class TestLiveSource:
    def test_picture_comes_as_planes_only_where_it_is_wanted(self):
        with MjpegServer(size_wh=(320, 240), fps=30) as server:
            stream = Stream(FakeRuntime(), open_source(server.url))
            wanted = True
            stream.wants_picture = lambda name: wanted
            frames = iter(stream)
            frame, _ = next(frames)
            assert frame.small is not None and frame.small.shape == (64, 85, 3)
            assert frame.image.shape == (240, 320, 3)
            whole = cv2.resize(frame.image, (85, 64), interpolation=cv2.INTER_AREA)
            assert decibels(frame.small, whole) > 38
            wanted = False
            for frame, found in itertools.islice(frames, 8):
                assert len(found) == 1 and frame.size_hw == (240, 320) and frame.small is not None
            assert not frame.pixels.is_kept
            (status,) = stream.status()
            assert status.size_hw == (240, 320)
            assert status.received == status.processed + sum(status.dropped.values()) + status.in_flight
            frames.close()

    def test_frames_that_are_kept_outlive_the_connection(self):
        with MjpegServer(size_wh=(64, 48), fps=50) as server:
            frames = iter(open_source(server.url))
            kept = list(itertools.islice(frames, 2 * PIECES))
            frames.close()
        assert {frame.image.shape for frame in kept} == {(48, 64, 3)}

    def test_model_that_looks_in_its_own_way_gets_the_whole_picture(self):
        class Tiled(FakeRuntime):
            def infer(self, image, **options):
                assert image.shape == (240, 320, 3)
                return super().infer(image, **options)

        with MjpegServer(size_wh=(320, 240), fps=30) as server:
            stream = Stream(Tiled(), open_source(server.url))
            stream.wants_picture = lambda name: False
            frames = iter(stream)
            frame, found = next(frames)
            assert frame.small is None and len(found) == 1
            frames.close()


class StillCamera:
    """Answers as OpenCV's capture of a V4L2 camera does, whose pictures are bytes in a form."""

    def __init__(self, fourcc: str, size_hw: tuple[int, int]) -> None:
        self.is_converted = True
        self._values = {
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*fourcc),
            cv2.CAP_PROP_FRAME_HEIGHT: size_hw[0],
            cv2.CAP_PROP_FRAME_WIDTH: size_hw[1],
        }

    def get(self, key: int) -> float:
        return float(self._values[key])

    def set(self, key: int, value: float) -> bool:
        assert key == cv2.CAP_PROP_CONVERT_RGB
        self.is_converted = bool(value)
        return True


def pack(frame) -> bytes:
    """The planes of a frame without gaps, as a camera sends them."""
    rows = [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in frame.planes]
    width = frame.width
    widths = {"yuyv422": [2 * width], "nv12": [width, width]}.get(frame.format.name, [width, width // 2, width // 2])
    return b"".join(np.ascontiguousarray(part[:, :side]).tobytes() for part, side in zip(rows, widths, strict=True))


class TestCamera:
    @pytest.mark.parametrize(("fourcc", "form"), [("YUYV", "yuyv422"), ("NV12", "nv12"), ("YU12", "yuv420p")])
    @pytest.mark.parametrize("size_hw", [(360, 640), (360, 636)])  # the second has gaps between FFmpeg's rows
    def test_planes_are_taken_as_the_camera_sends_them(self, fourcc, form, size_hw):
        frame = make_frame(form, paint(size_hw))
        capture = StillCamera(fourcc, size_hw)
        make_shot = camera.choose_shots(cv2, capture)
        assert not capture.is_converted
        shot = make_shot(np.frombuffer(pack(frame), np.uint8))
        assert shot.size_hw == size_hw
        small = shot.small((96, 96), is_alone=True).planes[0]
        expected = wrap_frame(make_scaler().scale(frame, preprocess.fit_size(size_hw, (96, 96)))).planes[0]
        assert bytes(small.data) == bytes(expected.data)
        whole = shot.whole()
        assert whole.form == form and b"".join(bytes(plane.data) for plane in whole.planes) == pack(frame)

    def test_half_a_picture_is_damaged(self):
        make_shot = camera.choose_shots(cv2, StillCamera("YUYV", (48, 64)))
        with pytest.raises(BrokenFrameError):
            make_shot(np.zeros(48 * 64, np.uint8))

    def test_jpeg_is_not_decoded_before_somebody_asks(self):
        data = cv2.imencode(".jpg", paint((480, 640)))[1].tobytes()
        make_shot = camera.choose_shots(cv2, StillCamera("MJPG", (480, 640)))
        shot = make_shot(np.frombuffer(data + bytes(999), np.uint8))  # the buffer goes on
        assert shot.small((96, 96), is_alone=True).size_hw == (72, 96)
        with pytest.raises(BrokenFrameError):
            make_shot(np.frombuffer(data[: len(data) // 2], np.uint8))

    def test_what_we_cannot_read_is_converted_by_opencv(self):
        capture = StillCamera("RGGB", (48, 64))
        shot = camera.choose_shots(cv2, capture)(paint((48, 64)))
        assert capture.is_converted and shot.whole().form == "bgr24"


class TestJpeg:
    def encode(self, size_hw, sampling) -> bytes:
        flags = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        return cv2.imencode(".jpg", cv2.cvtColor(paint(size_hw), cv2.COLOR_RGB2BGR), flags)[1].tobytes()

    @pytest.mark.parametrize("sampling", [0x221111, 0x211111, 0x111111])
    @pytest.mark.parametrize("size_hw", [(720, 1280), (1080, 1920), (333, 501)])
    def test_decoding_a_fraction_gives_what_decoding_all_gives(self, size_hw, sampling):
        shot = mjpeg.JpegShot(self.encode(size_hw, sampling), mjpeg.Decoder())
        fraction = shot.small((96, 96), is_alone=True)
        beside_whole = shot.small((96, 96), is_alone=False)
        assert fraction.size_hw == beside_whole.size_hw == preprocess.fit_size(size_hw, (96, 96))
        assert shot.whole().size_hw == shot.size_hw == size_hw
        images = [np.frombuffer(p.planes[0].data, np.uint8) for p in (fraction, beside_whole)]
        strides = [p.planes[0].stride for p in (fraction, beside_whole)]
        height, width = fraction.size_hw
        a, b = (i.reshape(-1, s)[:height, : 3 * width] for i, s in zip(images, strides, strict=True))
        assert decibels(a, b) > 40

    @pytest.mark.parametrize(
        ("size_hw", "fit_hw", "factor"),
        [((720, 1280), (180, 320), 2), ((1080, 1920), (180, 320), 2), ((2160, 3840), (180, 320), 4),
         ((480, 640), (240, 320), 1), ((480, 640), (480, 640), 1), ((6000, 8000), (240, 320), 8)],
    )  # fmt: skip
    def test_factor_leaves_twice_what_the_model_reads(self, size_hw, fit_hw, factor):
        assert mjpeg.choose_factor(size_hw, fit_hw) == factor

    def test_size_is_read_without_decoding(self):
        data = self.encode((46, 70), 0x221111)
        assert mjpeg.read_size(data) == (46, 70)
        assert mjpeg.read_size(data[:4]) is None and mjpeg.read_size(b"") is None

    @pytest.mark.parametrize("size_wh", [(320, 240), (640, 480)])  # decoded by PyAV, and a half of it by OpenCV
    def test_broken_picture_is_damaged_and_the_next_one_comes(self, size_wh):
        with MjpegServer(size_wh=size_wh, fps=30) as server:
            whole = server.picture

            def every_other():
                data = whole()
                if server.sent % 2:
                    return data
                return data.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\0")  # of no bits a sample

            server.picture = every_other
            stream = Stream(FakeRuntime(), open_source(server.url))
            stream.wants_picture = lambda name: False
            frames = iter(stream)
            for _ in itertools.islice(frames, 8):
                pass
            (status,) = stream.status()
            assert status.dropped["damaged"] >= 3
            assert status.received == status.processed + sum(status.dropped.values()) + status.in_flight
            frames.close()


def test_rgb_pixels_resize_as_the_letterbox_does():
    image = paint()
    assert np.array_equal(RgbPixels(image).resized((90, 160)), preprocess.resize_image(image, (90, 160), 0.25))


class TestDecoder:
    @pytest.fixture
    def container(self, tmp_path):
        path = tmp_path / "camera.mp4"
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "tune": "zerolatency"})
            video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
            for seed in range(12):
                container.mux(video.encode(av.VideoFrame.from_ndarray(paint((240, 320), seed), format="rgb24")))
            container.mux(video.encode())
        with av.open(str(path)) as container:
            yield container

    @pytest.mark.parametrize("name", ["", "h264"])
    @pytest.mark.parametrize("skip", ["", "loopfilter", "nonref"])
    def test_stream_is_decoded_as_its_options_say(self, container, name, skip):
        video = container.streams.video[0]
        decoder = network.choose_decoder(av, video, name, skip)
        packets = [packet if packet.size else None for packet in container.demux(video)]
        frames = [frame for packet in packets for frame in decoder.decode(packet)]
        assert len(frames) == 12 and (frames[0].height, frames[0].width) == (240, 320)

    def test_decoder_that_is_not_there_is_named(self, container):
        with pytest.raises(Trouble, match="h264_nowhere cannot be opened here") as caught:
            network.choose_decoder(av, container.streams.video[0], "h264_nowhere", "")
        assert caught.value.code == "no-codec"

    def test_options_reach_the_reading_process_and_others_are_refused(self):
        source = open_source("rtsp://127.0.0.1/live#decoder=h264_v4l2m2m,skip=loopfilter")
        assert (source._plan["decoder"], source._plan["skip"]) == ("h264_v4l2m2m", "loopfilter")
        for option, words in {"skip=all": "expected loopfilter or nonref", "decoder=a-b": "FFmpeg's name"}.items():
            with pytest.raises(UsageError, match=words):
                open_source(f"rtsp://127.0.0.1/live#{option}")
