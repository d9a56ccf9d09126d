"""The examples of a split as steps take them: whole on the devices, or streamed a batch at a time."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jaxtyping import Int, UInt8
from numpy.typing import NDArray

from hepcli.training._layout import Layout, all_agree

RESIDENT_SHARE = 0.4  # of a device's memory, at most, for the images of a split
RESIDENT_BYTES = 2**30  # the same where a device does not tell its memory, as CPUs do not
_AHEAD = 2  # batches read and sent before they are asked for

Indices = NDArray[np.int64]


class Batch(NamedTuple):
    """What a step is given, on the devices; where they are apart, NumPy arrays on the host.

    Attributes:
        images: uint8: the whole split, or what is streamed of it.
        labels: int32, likewise.
        rows: where the examples of the batch are in `images`, int32.
        indices: their numbers in the split, int32, the same shape.
    """

    images: UInt8[Array, "examples height width channels"]
    labels: Int[Array, " examples"]
    rows: Int[Array, "*runs batch"]
    indices: Int[Array, "*runs batch"]


class Feed:
    """Hands out batches of a split.

    Args:
        images: uint8 (examples, height, width, channels); memory-mapped where it is large.
        labels: int (examples,).
        layout: the devices.
        resident: whether the split lies on the devices; None decides by their memory. Ignored where the
            devices are apart.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int32],
        layout: Layout | None = None,
        resident: bool | None = None,
    ) -> None:
        self.layout = layout or Layout()
        self.num_examples = len(labels)
        self._host = images, labels
        if self.layout.is_apart:
            resident = False
        elif resident is None:
            resident = _fits(images.nbytes, self.layout)
        put = self.layout.replicate
        self._whole: tuple[Array, Array] | None = (put(images), put(labels)) if resident else None

    @property
    def resident(self) -> bool:
        """Whether the split lies on the devices."""
        return self._whole is not None

    def batches(self, indices: Iterable[Indices]) -> Iterator[Batch]:
        """Hand out batches, in order; streamed ones are read and sent while the steps before them run.

        Args:
            indices: of the examples of each batch, (*runs, batch).

        Yields:
            The batches.
        """
        if self._whole is not None:
            for own in indices:
                rows = self._numbers(own)
                yield Batch(*self._whole, rows, rows)
            return
        if self.layout.is_apart:
            yield from map(self._on_host, indices)
            return
        left = iter(indices)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed") as reader:
            pending: list[Future[Batch]] = [reader.submit(self._read, own) for own in islice(left, _AHEAD)]
            while pending:
                batch = pending.pop(0).result()
                pending += [reader.submit(self._read, own) for own in islice(left, 1)]
                yield batch

    def _read(self, own: Indices) -> Batch:
        images, labels = self._host
        flat = own.ravel()
        rows = np.arange(flat.size).reshape(own.shape)
        return Batch(
            self.layout.gather(lambda chosen: images[chosen], flat),
            self.layout.gather(lambda chosen: labels[chosen], flat),
            self._numbers(rows),
            self._numbers(own),
        )

    def _on_host(self, own: Indices) -> Batch:
        """The program that takes it gives each device its part."""
        images, labels = self._host
        rows = np.arange(len(own), dtype=np.int32)
        return Batch(images[own], labels[own], rows, own.astype(np.int32))  # type: ignore[arg-type]

    def _numbers(self, numbers: Indices) -> Array:
        return self.layout.split(numbers.astype(np.int32), axis=numbers.ndim - 1)


def _fits(size: int, layout: Layout) -> bool:
    """Whether images of that size may lie on every device."""
    own = [device for device in layout.devices if device.process_index == jax.process_index()]
    statistics = own[0].memory_stats() if own else None
    limit = statistics.get("bytes_limit") if statistics else None
    fits = size <= (RESIDENT_BYTES if limit is None else RESIDENT_SHARE * limit)
    return all_agree(fits)
