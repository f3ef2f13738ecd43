"""The checkpoints of one network in training: a folder with one file an epoch, of which the last two are kept."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sensai.files import reading, whole_file, writing
from sensai.models.storage import size_of
from sensai.models.widths import load_tensors

# What learns jointly goes back to the last epoch that all have written, which is at most one behind.
_KEPT = 2


@dataclass
class Progress:
    """Where a training stands, as kept in its checkpoint.

    Attributes:
        history: validation metrics of every epoch so far, with `train_loss`.
        best_epoch: index into `history`; -1 before the first.
        seconds: time trained so far; of networks that share a stream, each one's part of it.
        done: the training has ended, by `stopped_by` (`epochs`, `plateau`, `target` or `budget`).
        failure: why it was taken back to its last checkpoint and tried again; empty where it was not.
    """

    history: list[dict[str, float]]
    best_epoch: int = -1
    seconds: float = 0.0
    done: bool = False
    stopped_by: str = ""
    failure: str = ""


class Checkpoints:
    """The checkpoints of one network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, tensors: dict[str, Tensor], progress: Progress, state: Mapping[str, str]) -> None:
        """Write what a network goes on from after so many epochs as its history has; older files but one are removed.

        Raises:
            StorageError: it cannot be written; what was written before is still there.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        metadata = {**state, "progress": json.dumps(vars(progress))}
        with whole_file(self._file(len(progress.history)), size_of(tensors)) as temporary:
            save_file(tensors, temporary, metadata=metadata)
        for old in self._files()[:-_KEPT]:
            old.unlink(missing_ok=True)

    def read(self) -> tuple[dict[str, Tensor], Progress, dict[str, str]] | None:
        """Tensors, progress and the rest of the state as last written; None where there is no checkpoint.

        Raises:
            InputError: it cannot be read.
        """
        if not (files := self._files()):
            return None
        with _reading(files[-1]), safe_open(files[-1], framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            state = dict(file.metadata())
            progress = Progress(**json.loads(state.pop("progress")))
        return tensors, progress, state

    def progress(self, more_than: int = -1) -> Progress | None:
        """The progress as last written, by another process perhaps; None where no checkpoint tells of more epochs than that.

        Raises:
            InputError: a checkpoint cannot be read.
        """
        for path in reversed(self._files()):
            if int(path.stem) <= more_than:
                break
            # The writer may remove it in the meantime.
            with _reading(path), suppress(FileNotFoundError), safe_open(path, framework="pt") as file:
                return Progress(**json.loads(file.metadata()["progress"]))
        return None

    def load_best(self, network: nn.Module) -> Progress:
        """Give a network the weights of the best epoch, in eval mode; returns the progress."""
        found = self.read()
        if found is None:
            raise FileNotFoundError(f"no checkpoint in {self.folder}")
        load_tensors(network, below(found[0], "best."))
        network.eval()
        return found[1]

    def rewind(self, epochs: int) -> None:
        """Remove what was written after so many epochs."""
        for path in self._files():
            if int(path.stem) > epochs:
                path.unlink()

    def _files(self) -> list[Path]:
        """From the oldest to the newest."""
        return sorted(self.folder.glob("[0-9]*.safetensors"))

    def _file(self, epochs: int) -> Path:
        return self.folder / f"{epochs:06d}.safetensors"


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _reading(path: Path) -> AbstractContextManager[None]:
    return reading(f"the checkpoint {str(path)!r}", "remove it: training then goes on from the one before")
