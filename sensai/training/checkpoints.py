"""The checkpoints of one network in training: a folder with one file an epoch. The last two files stay."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sensai.files import reading, whole_file, writing
from sensai.models.storage import size_of
from sensai.models.widths import load_tensors

# Members that learn together go back to the last epoch that all have written, which is at most one behind.
_KEPT = 2


def epoch_text(metrics: Mapping[str, float], metric: str) -> str:
    """Return the training loss of an epoch and a validation metric, as progress bars show them."""
    shown = {"loss": "train_loss", f"validation {metric.replace('_', ' ')}": metric}
    return ", ".join(f"{title} {metrics[name]:.4f}" for title, name in shown.items() if name in metrics)


@dataclass
class TrainingHistory:
    """The training of one network so far.

    Attributes:
        epochs: validation metrics of every epoch, with `train_loss`.
        best_epoch: index into `epochs`; -1 before the first.
        seconds: time trained; networks that share batches each count their part of it.
        done: the training has ended, by `stopped_by` (`epochs`, `budget` or the name of a stop rule).
        stopped_after: the number of epochs after which a stop began the decay of the schedule; None: no stop has.
        failure: why it went back to its last checkpoint and was tried again; empty where it did not.
        cuts: the epochs before which the network was cut further, counted from 0.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0
    done: bool = False
    stopped_by: str = ""
    stopped_after: int | None = None
    failure: str = ""
    cuts: list[int] = field(default_factory=list)

    def then(self, later: "TrainingHistory") -> "TrainingHistory":
        """Return this training and a later one of the same network, after a further cut, as one."""
        before = len(self.epochs)
        return TrainingHistory(
            epochs=self.epochs + later.epochs,
            best_epoch=before + later.best_epoch,
            seconds=self.seconds + later.seconds,
            done=later.done,
            stopped_by=later.stopped_by,
            stopped_after=None if later.stopped_after is None else before + later.stopped_after,
            failure=later.failure or self.failure,
            cuts=[*self.cuts, before],
        )

    def to_json(self) -> str:
        """Return the content of a checkpoint; the epochs carry the name that earlier versions gave them."""
        fields = dict(vars(self))
        return json.dumps({"history": fields.pop("epochs"), **fields})

    @classmethod
    def from_json(cls, text: str) -> "TrainingHistory":
        """Return what `to_json` of this or an earlier version wrote."""
        fields = json.loads(text)
        return cls(epochs=fields.pop("history"), **fields)


class Checkpoints:
    """The checkpoints of one network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, tensors: dict[str, Tensor], history: TrainingHistory, state: Mapping[str, str]) -> None:
        """Write the checkpoint of the last epoch of a history, and remove all older files but one.

        Raises:
            StorageError: it cannot be written; what was written before is still there.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        metadata = {**state, "progress": history.to_json()}
        with whole_file(self._file(len(history.epochs)), size_of(tensors)) as temporary:
            save_file(tensors, temporary, metadata=metadata)
        for old in self._files()[:-_KEPT]:
            old.unlink(missing_ok=True)

    def read(self) -> tuple[dict[str, Tensor], TrainingHistory, dict[str, str]] | None:
        """Return tensors, history and the rest of the state as last written; None where there is no checkpoint.

        Raises:
            DamagedError: it cannot be read.
        """
        if not (files := self._files()):
            return None
        with _reading(files[-1]), safe_open(files[-1], framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            state = dict(file.metadata())
            history = TrainingHistory.from_json(state.pop("progress"))
        return tensors, history, state

    def history(self, more_than: int = -1) -> TrainingHistory | None:
        """Return the history as last written, perhaps by another process; None where it has no more than so many epochs.

        Raises:
            DamagedError: a checkpoint cannot be read.
        """
        for path in reversed(self._files()):
            if int(path.stem) <= more_than:
                break
            # The writer may remove it in the meantime.
            with _reading(path), suppress(FileNotFoundError), safe_open(path, framework="pt") as file:
                return TrainingHistory.from_json(file.metadata()["progress"])
        return None

    def load_best(self, network: nn.Module) -> TrainingHistory:
        """Give a network the weights of the best epoch, in eval mode, and return the history."""
        found = self.read()
        if found is None:
            raise FileNotFoundError(f"no checkpoint in {self.folder}")
        load_tensors(network, below(found[0], "best."))
        network.eval()
        return found[1]

    def rewind(self, epochs: int) -> None:
        """Remove the checkpoints of later epochs than so many."""
        for path in self._files():
            if int(path.stem) > epochs:
                path.unlink()

    def _files(self) -> list[Path]:
        """Return the checkpoints from the oldest to the newest."""
        return sorted(self.folder.glob("[0-9]*.safetensors"))

    def _file(self, epochs: int) -> Path:
        return self.folder / f"{epochs:06d}.safetensors"


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without the prefix."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _reading(path: Path) -> AbstractContextManager[None]:
    return reading(f"the checkpoint {str(path)!r}", "remove it: training then goes on from the one before")
