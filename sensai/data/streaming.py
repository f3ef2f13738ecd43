"""Image files that are decoded when a batch needs them, ahead of the batch in computation.

N images, C channels, H x W pixels. One reader serves a process: its batches have the labels of all classes, so any number
of members can be trained from one stream.
"""

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sensai.data.images.decoding import decode
from sensai.data.images.resizing import fit

# So many batches are decoded ahead; only these are in memory beside the current one.
_AHEAD = 2
_CHUNK_BYTES = 2**24


@dataclass(frozen=True)
class ImageFiles:
    """Image files, read as RGB, or as grey for one channel, and fitted while they are read.

    They are indexed by rows like the array that they would fill.

    Attributes:
        folder: the names are relative to it.
        names: (all N,), the files.
        image_shape: (C, H, W) of the fitted images, see `resizing.fit`.
    """

    folder: Path
    names: Sequence[str]
    image_shape: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape (all N, C, H, W) of the array that the images would fill."""
        return (len(self.names), *self.image_shape)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        (images,) = self.read_ahead([rows])
        return images

    def read_ahead(self, batches_of_rows: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        """Yield each batch of rows as uint8 (N, C, H, W); a pool of threads decodes the next ones meanwhile.

        The threads end with the iterator, also when it is closed or fails.

        Raises:
            InputError: a file cannot be read, is broken, or is coloured although there is one channel.
        """
        # Imported here, since cached results are found without torch.
        from torch import get_num_threads

        # The pool has as many threads as the libraries of this process may use; workers limit that number.
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
    """Return the batch when all of its images are decoded."""
    for _ in decoding:
        pass
    return images


# uint8 (all N, C, H, W): an array, mapped or in memory, or the files that would fill it. `images[rows]` reads either.
Images = np.ndarray | ImageFiles


def read_ahead(images: Images, batches_of_rows: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
    """Yield each batch of rows as uint8 (N, C, H, W); files are decoded ahead of it, see `ImageFiles.read_ahead`."""
    if isinstance(images, ImageFiles):
        yield from images.read_ahead(batches_of_rows)
    else:
        for rows in batches_of_rows:
            yield images[rows]


def in_chunks(rows: np.ndarray, image_shape: tuple[int, ...]) -> list[np.ndarray]:
    """Return the rows in parts of about 16 MiB of images, for passes through a whole data set."""
    count = max(_CHUNK_BYTES // math.prod(image_shape), 1)
    return [rows[start : start + count] for start in range(0, len(rows), count)]
