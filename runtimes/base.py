"""Base class of all runtimes: `infer` an RGB image, `close`.

A backend adds `run`, from the input tensor to the raw outputs of the graph. Letterboxing, dropping empty rows and
mapping boxes back are implemented here once for all.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import EdgeError, ModelFileError, UsageError, one_line
from runtimes.lane_pool import LanePool
from runtimes.model_card import ModelCard
from runtimes.names import ClassName, find_labels
from runtimes.pictures import Picture, open_picture
from runtimes.preprocess import Letterbox, Order, letterbox, pad_image
from runtimes.types import Detections

Array = NDArray[Any]


class RawOutputs(NamedTuple):
    """Outputs of the graph; they may be views into the runtime's memory, valid until its next run."""

    boxes: Array
    """(D, 4) float32, x0 y0 x1 y1 in input pixels."""
    scores: Array
    """(D,) float32 in [0, 1]; empty rows are 0."""
    labels: Array
    """(D,) integer, 0-based."""
    masks: Array
    """(D, M, M) float32 probability of the box's own class."""


class Keep(NamedTuple):
    """Which rows of the outputs are kept."""

    conf: float
    """Score threshold, in [0, 1]."""
    labels: list[int] | None
    """0-based labels of the kept classes; None for all."""

    @classmethod
    def make(cls, card: ModelCard, conf: float, classes: ClassName | Sequence[ClassName] | None) -> Keep:
        """From the arguments of `Runtime.infer`."""
        return cls(conf, None if classes is None else find_labels(card.classes, classes))

    def choose(self, raw: RawOutputs) -> Array:
        """(D,) bool: rows that are detections and are kept."""
        live: Array = (raw.scores > 0) & (raw.scores >= self.conf)
        return live if self.labels is None else live & np.isin(raw.labels, self.labels)


BATCH_OUTPUT = "images"
"""Further output of a graph that takes several images and has a dynamic number of rows: (n,) integer, the image of each
row."""


class Runtime(ABC):
    """An opened model; a context manager. Not for use by several threads at once, see `lanes`."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self._others: list[Runtime] = []
        self._pool: LanePool[Runtime] | None = None

    @abstractmethod
    def run(self, x: Array) -> RawOutputs:
        """Run the graph on a (1, H, W, 3) uint8 RGB tensor of the card's size."""

    def run_batch(self, x: Array) -> list[RawOutputs]:
        """Run the graph on several images, in as many runs as its batch size needs.

        Args:
            x: (n, H, W, 3) uint8 RGB of the card's size, any n.

        Returns:
            The outputs for each image, as copies.
        """
        return [RawOutputs(*map(np.array, self.run(x[i : i + 1]))) for i in range(len(x))]

    @abstractmethod
    def close(self) -> None:
        """Free the memory of the runtime and its other lanes; a second call does nothing.

        Running work of `submit` is completed, waiting work is cancelled.
        """
        self._end_pool()
        for lane in self._others:
            lane.close()
        self._others = []

    def lanes(self, count: int) -> list[Runtime]:
        """Runtimes for use by several threads at the same time; together they use the same CPU threads.

        This runtime is the first of them, and closes the others with itself. It must be idle during the call, because
        it may be opened again with its share of the threads. A call with another number closes the earlier lanes.

        Args:
            count: Number of frames in flight.

        Raises:
            UsageError: If the number is below 1, or this kind of runtime takes only one frame at a time.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UsageError(f"lanes {count!r}: expected a whole number of at least 1")
        if count == 1 + len(self._others):
            return [self, *self._others]
        self._end_pool()
        for lane in self._others:
            lane.close()
        self._others = self.split(count)
        lanes = [self, *self._others]
        for lane in lanes:
            warm_up(self.card.name, lane)
        return lanes

    def split(self, count: int) -> list[Runtime]:
        """Implementation of `lanes` for an SDK: take one share of `count` of the threads, and return `count - 1`
        further runtimes."""
        raise UsageError(f"lanes {count}: a {type(self).__name__} takes one frame at a time")

    def _end_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def describe(self) -> dict[str, str]:
        """What the graph effectively runs on, if the SDK reports it: device, precision, threads."""
        return {}

    def infer(
        self,
        image: Picture,
        *,
        order: Order = "rgb",
        conf: float = 0.0,
        classes: ClassName | Sequence[ClassName] | None = None,
    ) -> Detections:
        """Detect objects.

        Args:
            image: (h, w, 3) uint8 RGB, any size; or the path of an image file, or a PIL image.
            order: "bgr" if the channels of an array are in OpenCV's order.
            conf: Score threshold, in [0, 1]; detections below the card's threshold do not exist.
            classes: Names or 0-based labels of the kept classes; all if None.

        Returns:
            Detections in pixels of that image, sorted by score, with the time of each stage.

        Raises:
            ImageError: If the image has another shape or type, or cannot be decoded.
            MissingFileError: If there is no such file.
            UsageError: If the order or a class is unknown.
        """
        keep = Keep.make(self.card, conf, classes)
        start = time.perf_counter()
        x, box = self._read(image, order)
        ready = time.perf_counter()
        raw = self.run(x)
        done = time.perf_counter()
        return self._finish(raw, box, ready - start, done - ready, keep, image)

    @property
    def takes_resized(self) -> bool:
        """Whether `infer_resized` gives the same detections as `infer`; false for subclasses that process the image
        differently."""
        return type(self).infer is Runtime.infer

    def infer_resized(self, resized: Array, source_hw: tuple[int, int]) -> Detections:
        """Detect objects in an image that its source has already resized.

        Args:
            resized: (h, w, 3) uint8 RGB of the size that `runtimes.preprocess.fit_size` gives for the card's input.
            source_hw: Height and width of the original image, in pixels.

        Returns:
            As `infer`: detections in pixels of the original image.

        Raises:
            ImageError: If the image has another size or type.
        """
        start = time.perf_counter()
        canvas, box = pad_image(resized, source_hw, self.card.input_size_hw, self.card.pad_rgb)
        ready = time.perf_counter()
        raw = self.run(canvas[None])
        done = time.perf_counter()
        return self._finish(raw, box, ready - start, done - ready, Keep.make(self.card, 0.0, None), resized)

    def infer_batch(
        self,
        images: Sequence[Picture],
        *,
        order: Order = "rgb",
        conf: float = 0.0,
        classes: ClassName | Sequence[ClassName] | None = None,
    ) -> list[Detections]:
        """Detect objects in several images, `card.batch` of them in one run.

        Args:
            images: (h, w, 3) uint8 RGB each, of any sizes, or paths, or PIL images; may be empty.
            order: As of `infer`.
            conf: As of `infer`.
            classes: As of `infer`.

        Returns:
            For each image the result of `infer`; times are shares of the batch's time.

        Raises:
            ImageError, MissingFileError: As of `infer`.
            UsageError: If the order or a class is unknown.
        """
        keep = Keep.make(self.card, conf, classes)
        if not images:
            return []
        start = time.perf_counter()
        tensors, boxes = zip(*(self._read(image, order) for image in images), strict=True)
        x = np.concatenate(tensors)
        ready = time.perf_counter()
        outputs = self.run_batch(x)
        done = time.perf_counter()
        shares = (ready - start) / len(images), (done - ready) / len(images)
        rows = zip(outputs, boxes, images, strict=True)
        return [self._finish(raw, box, *shares, keep, image) for raw, box, image in rows]

    @overload
    def __call__(self, image: list[Picture], **options: Any) -> list[Detections]: ...
    @overload
    def __call__(self, image: Picture, **options: Any) -> Detections: ...
    def __call__(self, image: Picture | list[Picture], **options: Any) -> Detections | list[Detections]:
        """`infer` for an image, `infer_batch` for a list of images; takes their options."""
        return self.infer_batch(image, **options) if isinstance(image, list) else self.infer(image, **options)

    def submit(self, image: Picture, **options: Any) -> Future[Detections]:
        """Start the inference of an image and return at once.

        One image is in flight at a time, or as many as `lanes` was called with; others wait in a queue. Until all are
        done, nothing else may use this runtime.

        Args:
            image: As of `infer`; do not change an array until the future is done.
            **options: Of `infer`.

        Returns:
            A future whose `result()` is the result of `infer`, or raises its exception.
        """
        if self._pool is None:
            self._pool = LanePool([self, *self._others])
        return self._pool.submit(lambda lane: lane.infer(image, **options))

    async def infer_async(self, image: Picture, **options: Any) -> Detections:
        """`infer` for `await`; the event loop keeps running. See `submit`."""
        import asyncio  # imported here, because only this method needs it

        return await asyncio.wrap_future(self.submit(image, **options))

    def _read(self, image: Picture, order: Order) -> tuple[Array, Letterbox]:
        """The (1, H, W, 3) input of an image, and the mapping back to its pixels."""
        pixels, own_order = open_picture(image, order)
        return letterbox(pixels, self.card, own_order)

    def _finish(
        self,
        raw: RawOutputs,
        box: Letterbox,
        preprocess_s: float,
        inference_s: float,
        keep: Keep,
        image: Picture,
    ) -> Detections:
        """The kept detections in pixels of the source, with the time of each stage."""
        start = time.perf_counter()
        live = keep.choose(raw)
        boxes, labels, masks = box.map_boxes(raw.boxes[live]), raw.labels[live].astype(np.int64), raw.masks[live]
        end = time.perf_counter()
        return Detections(
            boxes_xyxy=boxes,
            scores=raw.scores[live],
            labels=labels,
            mask_probs=masks,
            image_size_hw=box.source_size_hw,
            mask_offset_xy=box.map_offset(self.card.mask_offset),
            names=self.card.classes,
            category_ids=self.card.category_ids,
            path=str(image) if isinstance(image, (str, Path)) else None,
            speed_ms={
                "preprocess": 1e3 * preprocess_s,
                "inference": 1e3 * inference_s,
                "postprocess": 1e3 * (end - start),
            },
        )

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BatchRuntime(Runtime):
    """A runtime whose graph may have been exported with a batch size above 1."""

    @abstractmethod
    def run_graph(self, x: Array) -> Sequence[Array]:
        """Run the graph on a (card.batch, H, W, 3) tensor; returns its outputs in the order of `output_names`.

        They may be views into the runtime's memory, valid until its next run.
        """

    def run(self, x: Array) -> RawOutputs:
        return RawOutputs(*self.run_graph(x)) if self.card.batch == 1 else self.run_batch(x)[0]

    def run_batch(self, x: Array) -> list[RawOutputs]:
        batch = self.card.batch
        if batch == 1:
            return super().run_batch(x)
        parts = [x[start : start + batch] for start in range(0, len(x), batch)]
        return [
            raw for part in parts for raw in split_rows(self.run_graph(fill_batch(part, batch)), batch)[: len(part)]
        ]


def output_names(card: ModelCard) -> tuple[str, ...]:
    """Output names of a graph: those of `RawOutputs`, and `BATCH_OUTPUT` if the number of rows is dynamic."""
    tells = card.batch == 1 or card.rows == "static"
    return RawOutputs._fields if tells else (*RawOutputs._fields, BATCH_OUTPUT)


def fill_batch(x: Array, batch: int) -> Array:
    """Pad (n, H, W, 3) to (batch, H, W, 3) with black images."""
    missing = batch - len(x)
    return np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x


def split_rows(outputs: Sequence[Array], batch: int) -> list[RawOutputs]:
    """Copies of each image's rows in the outputs of a batch; without `BATCH_OUTPUT` all images have the same number of
    rows."""
    rows, named = outputs[:4], outputs[4:]
    images = named[0] if named else np.repeat(np.arange(batch), len(rows[0]) // batch)
    return [RawOutputs(*(values[images == index] for values in rows)) for index in range(batch)]


class FakeRuntime(Runtime):
    """A runtime without a model: returns given outputs after a given time. For tests and experiments with the
    pipeline."""

    def __init__(
        self,
        card: ModelCard | None = None,
        respond: Callable[[Array], RawOutputs] | None = None,
        *,
        latency_s: float = 0.0,
    ) -> None:
        """Make one.

        Args:
            card: Card of the pretended model; by default a two-class model of 64 x 96 pixels.
            respond: Function from the (1, H, W, 3) uint8 tensor to the raw outputs; by default one object in the
                middle.
            latency_s: Time of every run, in seconds.
        """
        super().__init__(card or _FAKE_CARD)
        self.is_closed = False
        self._respond = respond or _find_middle
        self._latency_s = latency_s

    def run(self, x: Array) -> RawOutputs:
        if self._latency_s:
            time.sleep(self._latency_s)
        return self._respond(x)

    def split(self, count: int) -> list[Runtime]:
        """Further runtimes of the same kind."""
        return [FakeRuntime(self.card, self._respond, latency_s=self._latency_s) for _ in range(count - 1)]

    def close(self) -> None:
        super().close()
        self.is_closed = True


_FAKE_CARD = ModelCard(
    name="fake",
    classes=("thing", "other"),
    category_ids=(1, 2),
    input_size_hw=(64, 96),
    pad_rgb=(114, 114, 114),
    proposals=4,
    max_detections=4,
    mask_size=14,
    score_threshold=0.05,
    iou_threshold=0.5,
    target="fake",
)


def _find_middle(x: Array) -> RawOutputs:
    """One disc of class 0 in the middle half of the input."""
    height, width = x.shape[1:3]
    axis = np.linspace(-1, 1, _FAKE_CARD.mask_size, dtype=np.float32)
    disc = np.clip(1.5 - np.hypot(axis, axis[:, None]), 0, 1)
    box = np.array([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], dtype=np.float32)
    return RawOutputs(box, np.array([0.9], np.float32), np.array([0]), disc[None])


def warm_up(path: object, runtime: Runtime) -> None:
    """Run a model once on a plain image, to detect a damaged file now and to warm up for the first frame.

    Raises:
        ModelFileError: If it cannot run, or its outputs do not match the contract.
    """
    height, width = runtime.card.input_size_hw
    with refusing(path, "the model cannot run"):
        runtime.infer(np.full((height, width, 3), 114, dtype=np.uint8))


@contextmanager
def refusing(path: object, complaint: str) -> Iterator[None]:
    """Turn any exception of an SDK, which for a damaged file can be of any type, into a ModelFileError with this
    message."""
    try:
        yield
    except EdgeError:
        raise
    except Exception as error:
        raise ModelFileError(f"{path}: {complaint}: {one_line(error)}") from error


def check_graph(path: object, card: ModelCard, input_shape: tuple[object, ...], outputs: set[str]) -> None:
    """Raise ModelFileError unless the inputs and outputs of a graph match the contract.

    Args:
        path: Path of the model file, for the message.
        card: Card of the model.
        input_shape: Shape of the graph's input as the SDK states it.
        outputs: Names of the graph's outputs.
    """
    expected = (card.batch, *card.input_size_hw, 3)
    if tuple(input_shape) != expected:
        raise ModelFileError(
            f"{path}: the model card says input {expected}, the graph has {tuple(input_shape)}; export it again"
        )
    missing = set(output_names(card)) - outputs
    if missing:
        raise ModelFileError(f"{path}: the graph has no output {', '.join(sorted(missing))}: export it again")
