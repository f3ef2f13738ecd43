"""Images that stay in their files and are decoded when a batch asks for them, ahead of the batch that is computed with.

N images, C channels, H x W pixels. One reader serves a process: its batches carry the labels of all classes, so that any
number of members can be fed from one stream.
"""

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import get_num_threads

from sensai.data.decoding import decode
from sensai.data.resizing import fit

# Batches in decoding while one is computed with: all that is ever in memory beside it.
_AHEAD = 2
_CHUNK_BYTES = 2**24


@dataclass(frozen=True)
class ImageFiles:
    """Image files, taken as RGB, or as grey for one channel, and fitted as they are read.

    They are indexed by rows like the array that they would fill.

    Attributes:
        folder: what the names are relative to.
        names: (all N,), the files.
        image_shape: (C, H, W) that `fitting.fit` brings each image to.
    """

    folder: Path
    names: Sequence[str]
    image_shape: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (all N, C, H, W) of the array that the images would fill."""
        return (len(self.names), *self.image_shape)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        (images,) = self.read_ahead([rows])
        return images

    def read_ahead(self, batches_of_rows: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        """Each batch of rows as uint8 (N, C, H, W), the next ones in decoding by a pool of threads.

        The threads end with the iterator, be it exhausted, closed or broken by an error.

        Raises:
            InputError: a file that cannot be read or is broken, or a coloured one where there is one channel.
        """
        # No more threads than the libraries of this process may take, which workers pin.
        pool = ThreadPoolExecutor(get_num_threads())
        decoding: deque[tuple[np.ndarray, Iterator[None]]] = deque()
        try:
            for rows in batches_of_rows:
                decoding.append(self._start(rows, pool))
                if len(decoding) > _AHEAD:
                    yield _finished(*decoding.popleft())
            while decoding:
                yield _finished(*decoding.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _start(self, rows: np.ndarray, pool: ThreadPoolExecutor) -> tuple[np.ndarray, Iterator[None]]:
        images = np.empty((len(rows), *self.image_shape), np.uint8)

        def read(position: int, row: int) -> None:
            images[position] = self._fitted(row)

        return images, pool.map(read, range(len(rows)), rows)

    def _fitted(self, row: int) -> np.ndarray:
        channels, *size = self.image_shape
        pixels = decode(self.folder / self.names[row], channels=channels)
        return fit(pixels[None], (size[0], size[1]), channels)[0]


def _finished(images: np.ndarray, decoding: Iterator[None]) -> np.ndarray:
    """The batch once all of its images are in."""
    for _ in decoding:
        pass
    return images


# uint8 (all N, C, H, W): an array, mapped or in memory, or the files that would fill it. `images[rows]` reads either.
Images = np.ndarray | ImageFiles


def read_ahead(images: Images, batches_of_rows: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
    """Each batch of rows as uint8 (N, C, H, W); files are decoded ahead of it, see `ImageFiles.read_ahead`."""
    if isinstance(images, ImageFiles):
        yield from images.read_ahead(batches_of_rows)
    else:
        for rows in batches_of_rows:
            yield images[rows]


def in_chunks(rows: np.ndarray, image_shape: tuple[int, ...]) -> list[np.ndarray]:
    """Rows in parts of about 16 MiB of images, for what goes through a whole data set."""
    count = max(_CHUNK_BYTES // math.prod(image_shape), 1)
    return [rows[start : start + count] for start in range(0, len(rows), count)]
