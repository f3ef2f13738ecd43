"""Members that are trained by one loss: a single one, or several that learn together. N images, K classes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sensai.ensemble.streams import side_by_side
from sensai.training.checkpoints import TrainingHistory
from sensai.training.member_trainer import MemberTrainer
from sensai.training.objectives import Objective, balanced_rows, on_device
from sensai.training.precision import Precision, autocast
from sensai.training.rendezvous import ProcessGroup

if TYPE_CHECKING:
    # Members and workers form no groups, so their processes need not wait for what that takes.
    from sensai.grouping.partitions import Group


class JointTrainer:
    """Members that are trained by one loss, judged and stopped together.

    Attributes:
        model: gives the logits of the loss; the members' networks are its parts.
        judged: likewise of the networks that are judged (see `MemberTrainer.judged`).
        objective: loss and metrics.
        members: that are trained, all in the same epoch.
        stream: number of the stream of batches that they learn from.
        failure: why the training could not go on; empty while it can.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        members: Sequence[MemberTrainer],
        *,
        judged: nn.Module | None = None,
        precision: Precision = "fp32",
        seed: int = 0,
        sampled: bool = False,
        stream: int = 0,
        group: ProcessGroup | None = None,
    ) -> None:
        """Join members.

        Args:
            model: gives the logits of the loss; the members' networks are its parts.
            objective: loss and metrics.
            members: at least one; all in the same epoch.
            judged: gives the logits of the networks that are judged; None: it is the model, whose weights are not averaged.
            precision: of forward passes.
            seed: of everything random: the rows of a sample, and the noise of networks with dropout.
            sampled: each batch is balanced by a sample of its rows (see `balanced_rows`), not by weights.
            stream: number of the stream of batches that they learn from.
            group: of the processes that train the other members; a lack of memory is then raised, because they wait for this
                process. None: all members are here, and a lack of memory ends only them.
        """
        self.model, self.objective, self.members = model, objective, list(members)
        self.judged = model if judged is None else judged
        self.stream, self.failure = stream, ""
        self._precision, self._seed, self._sampled, self._group = precision, seed, sampled, group
        self._rows, self._noise = torch.Generator(), torch.Generator()
        self._loss_sum, self._images = torch.zeros((), dtype=torch.float64), 0

    @property
    def history(self) -> TrainingHistory:
        """Return the history of the first member, which is that of all but for their seconds."""
        return self.members[0].history

    @property
    def epoch(self) -> int:
        """Return the number of the next epoch."""
        return self.members[0].epoch

    @property
    def done(self) -> bool:
        """Return whether nothing is left to train."""
        return bool(self.failure) or self.history.done

    @property
    def decaying(self) -> bool:
        """Return whether the schedule's decay has begun (see `MemberTrainer.decaying`)."""
        return self.members[0].decaying

    @property
    def epochs_after_stop(self) -> int:
        """Return the epochs of each member after a stop now (see `MemberTrainer.epochs_after_stop`)."""
        return self.members[0].epochs_after_stop

    @property
    def seconds_an_epoch(self) -> float:
        """Return the average seconds of an epoch so far; 0 before the first."""
        return sum(member.history.seconds for member in self.members) / max(self.epoch, 1)

    @property
    def awaited(self) -> bool:
        """Return whether other processes wait for this one."""
        return self._group is not None

    def recent_gain(self, epochs: int) -> float:
        """Return the growth of the validation metric (see `MemberTrainer.recent_gain`)."""
        return self.members[0].recent_gain(epochs)

    def begin_epoch(self) -> None:
        """Prepare for the steps of one epoch."""
        self.model.train()
        self._loss_sum, self._images = torch.zeros((), dtype=torch.float64), 0
        for generator in (self._rows, self._noise):
            generator.manual_seed(self._seed * 1_000_003 + self.epoch)

    def step(self, images: Tensor, labels: Tensor, teacher: Tensor | None) -> None:
        """Learn one batch.

        Args:
            images: float32 (N, C, H, W).
            labels: int64 (N,), or float32 (N, K) of mixed images.
            teacher: logits (N, K), where there is a teacher.
        """
        with self.isolation():
            if self._sampled:
                rows = balanced_rows(self.objective.targets(labels), len(self.objective.classes), self._rows)
                images, labels, teacher = images[rows], labels[rows], None if teacher is None else teacher[rows]
            for member in self.members:
                member.optimizer.zero_grad(set_to_none=True)
            # A seed of its own makes the noise independent of other trainers, and of where a killed training goes on.
            torch.manual_seed(int(torch.randint(2**62, (), generator=self._noise)))
            with autocast(self._precision, images.device):
                logits = self.model(images)
            loss = self.objective.loss(logits.float(), labels, teacher)
            loss.backward()
            for member in self.members:
                member.update()
            # Reading the loss would make a GPU wait at every step, so it is summed there until the epoch ends.
            self._loss_sum = self._loss_sum.to(loss.device) + loss.detach().double() * len(labels)
            self._images += len(labels)

    def end_epoch(self, metrics: Mapping[str, float], seconds: float) -> None:
        """Record the epoch, decide whether to stop, and write checkpoints; a loss that is not finite is a failure."""
        train_loss = float(self._loss_sum) / self._images
        if not (math.isfinite(train_loss) and math.isfinite(metrics.get("loss", 0.0))):
            self.failure = f"the loss is not finite in epoch {self.epoch}; try a smaller learning rate"
            return
        if self._group is not None:
            seconds = self._group.all_reduce_max(seconds)
        for member in self.members:
            member.end_epoch({**metrics, "train_loss": train_loss}, seconds / len(self.members))

    def go_back(self) -> None:
        """Try once more from the last checkpoint (see `MemberTrainer.go_back`)."""
        for member in self.members:
            member.go_back(self.failure)
        self.failure = ""

    def stop(self, reason: str) -> None:
        """Begin the decay of the schedule, or end the training (see `MemberTrainer.stop`)."""
        for member in self.members:
            member.stop(reason)

    def load_best(self) -> None:
        """Give all networks the weights of their best epoch, in eval mode."""
        for member in self.members:
            member.load_best()

    def isolation(self) -> AbstractContextManager[None]:
        """Turn a lack of memory in the block into this trainer's failure, unless other processes wait for it."""
        return nullcontext() if self.awaited else self._noting_lack_of_memory()

    @contextmanager
    def _noting_lack_of_memory(self) -> Iterator[None]:
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self.failure = f"out of memory in epoch {self.epoch} ({' '.join(str(error).split())[:200]})"
            for member in self.members:
                member.optimizer.zero_grad(set_to_none=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a lack of memory (the CPU's allocator has no exception of its own)."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class JointLogits(nn.Module):
    """All members as one K-way network, whose logits are those of `class_contrasts`.

    The logit of a class is the sum over its groups of its output less that of "none", and the mean over members of all
    classes, which have no "none". Members may be in other processes. Their logits come from there, and gradients stay in
    each process.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        numbers: Sequence[int],
        groups: "Sequence[Group]",
        num_classes: int,
        process_group: ProcessGroup | None = None,
    ) -> None:
        """Join networks.

        Args:
            members: the networks of this process.
            numbers: of these members, in the ensemble.
            groups: the classes of every member of the ensemble.
            num_classes: K.
            process_group: of the processes with the other members; None: all members are here.
        """
        super().__init__()
        self.networks = nn.ModuleList(members)
        self._groups = [groups[number] for number in numbers]
        self._seeds = [noise_seed(number, groups, num_classes) for number in numbers]
        self._whole = sum(len(group) == num_classes for group in groups)
        self._num_classes, self._process_group = num_classes, process_group

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float32 (N, K) for normalised images (N, C, H, W)."""
        outputs = side_by_side(self._runs(images), images)
        own = [self._class_logits(output.float(), group) for output, group in zip(outputs, self._groups, strict=True)]
        columns = [on_device(group, images.device, torch.int64) for group in self._groups]
        everyone = images.new_zeros(len(images), self._num_classes, dtype=torch.float32)
        for logits, where in zip(own, columns, strict=True):
            everyone.index_add_(1, where, logits.detach())
        if self._process_group is not None:
            self._process_group.all_reduce_sum(everyone)
        # The values are there already. Zeros with a gradient are added one by one, so that no member's gradients depend,
        # even in their last digit, on which others are here.
        for logits, where in zip(own, columns, strict=True):
            everyone = everyone.index_add(1, where, logits - logits.detach())
        return everyone

    def _class_logits(self, output: Tensor, group: "Group") -> Tensor:
        """Return (N, g): what a member adds to the logits of its classes."""
        if len(group) == self._num_classes:
            return output / self._whole
        return output if len(group) == 1 else output[:, 1:] - output[:, :1]

    def _runs(self, images: Tensor) -> list[Callable[[Tensor], Tensor]]:
        """Return the networks; on a CPU each has noise of its own, whichever others are here (a GPU captures no seeds)."""
        if images.is_cuda or not self.training:
            return list(self.networks)
        seed = torch.initial_seed()
        return [
            partial(_with_noise, network, seed ^ own) for network, own in zip(self.networks, self._seeds, strict=True)
        ]


def noise_seed(number: int, groups: "Sequence[Group]", num_classes: int) -> int:
    """Return a seed that no other member has: the first class of its group, and how many members before begin with it."""
    first = groups[number][0]
    return first + num_classes * sum(group[0] == first for group in groups[:number])


def _with_noise(network: nn.Module, seed: int, images: Tensor) -> Tensor:
    torch.manual_seed(seed)
    return network(images)
