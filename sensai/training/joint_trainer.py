"""Networks that learn by one loss: a trainer of one, or members that learn jointly. N images, K classes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sensai.ensemble.streams import side_by_side
from sensai.training.member_trainer import MemberTrainer
from sensai.training.objectives import Objective, balanced_rows, on_device
from sensai.training.precision import Precision, autocast
from sensai.training.rendezvous import ProcessGroup

if TYPE_CHECKING:
    # Members and workers form no groups, so their processes need not wait for what that takes.
    from sensai.grouping.partitions import Group


class JointTrainer:
    """Networks that are trained by one loss, and judged and stopped together.

    Attributes:
        failure: why the trainer could not go on; empty while it can.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        members: Sequence[MemberTrainer],
        *,
        precision: Precision = "fp32",
        seed: int = 0,
        sampled: bool = False,
        group: ProcessGroup | None = None,
    ) -> None:
        """Put a trainer together.

        Args:
            model: gives the logits that the loss is taken of; the members' networks are its parts.
            objective: loss and metrics.
            members: at least one; all in the same epoch.
            precision: what forward passes are computed in.
            seed: of what is drawn at random: the rows of a sample, and the noise of networks that have some (dropout).
            sampled: each batch is balanced by the rows that are learnt from (see `balanced_rows`), not by weights.
            group: with the processes that train the rest of the trainer; these wait for this one, so that a lack of memory
                is raised. None: the trainer is here, and it alone is ended.
        """
        self.model, self.objective, self.members = model, objective, list(members)
        self.failure = ""
        self._precision, self._seed, self._sampled, self._exchange = precision, seed, sampled, group
        self._rows, self._noise = torch.Generator(), torch.Generator()
        self._loss_sum, self._images = torch.zeros((), dtype=torch.float64), 0

    @property
    def lead(self) -> MemberTrainer:
        """The member whose progress is that of all."""
        return self.members[0]

    @property
    def done(self) -> bool:
        """Nothing is left to train."""
        return bool(self.failure) or self.lead.progress.done

    @property
    def seconds_an_epoch(self) -> float:
        """What an epoch has taken so far, on average; 0 before the first."""
        return sum(member.progress.seconds for member in self.members) / max(self.lead.epoch, 1)

    @property
    def awaited(self) -> bool:
        """Other processes wait for what this one computes."""
        return self._exchange is not None

    def begin_epoch(self) -> None:
        """Make ready for the steps of one epoch."""
        self.model.train()
        self._loss_sum, self._images = torch.zeros((), dtype=torch.float64), 0
        for generator in (self._rows, self._noise):
            generator.manual_seed(self._seed * 1_000_003 + self.lead.epoch)

    def step(self, images: Tensor, labels: Tensor, teacher: Tensor | None) -> None:
        """Learn one batch: images (N, C, H, W), labels int64 (N,), and the teacher's logits (N, K) where there is one."""
        with self.isolation():
            if self._sampled:
                rows = balanced_rows(self.objective.targets(labels), len(self.objective.classes), self._rows)
                images, labels, teacher = images[rows], labels[rows], None if teacher is None else teacher[rows]
            for member in self.members:
                member.optimizer.zero_grad(set_to_none=True)
            # Neither what other trainers draw nor where a killed training goes on from makes a difference.
            torch.manual_seed(int(torch.randint(2**62, (), generator=self._noise)))
            with autocast(self._precision, images.device):
                logits = self.model(images)
            loss = self.objective.loss(logits.float(), labels, teacher)
            loss.backward()
            for member in self.members:
                member.update()
            # Not read before the epoch ends: a GPU would wait at every step.
            self._loss_sum = self._loss_sum.to(loss.device) + loss.detach().double() * len(labels)
            self._images += len(labels)

    def end_epoch(self, metrics: Mapping[str, float], seconds: float) -> None:
        """Judge the epoch, decide whether to stop, write checkpoints; a loss that is not finite is a failure."""
        train_loss = float(self._loss_sum) / self._images
        if not (math.isfinite(train_loss) and math.isfinite(metrics.get("loss", 0.0))):
            self.failure = f"the loss is not finite in epoch {self.lead.epoch}; try a smaller learning rate"
            return
        if self._exchange is not None:
            seconds = self._exchange.all_reduce_max(seconds)
        for member in self.members:
            member.end_epoch({**metrics, "train_loss": train_loss}, seconds / len(self.members))

    def go_back(self) -> None:
        """Try once more from the last checkpoint (see `MemberTrainer.go_back`)."""
        for member in self.members:
            member.go_back(self.failure)
        self.failure = ""

    def stop(self, reason: str) -> None:
        """End the training before its time."""
        for member in self.members:
            member.stop(reason)

    def isolation(self) -> AbstractContextManager[None]:
        """A lack of memory in the block is this trainer's failure, and no error, unless other processes wait for it."""
        return nullcontext() if self.awaited else self._noting_lack_of_memory()

    @contextmanager
    def _noting_lack_of_memory(self) -> Iterator[None]:
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self.failure = f"out of memory in epoch {self.lead.epoch} ({' '.join(str(error).split())[:200]})"
            for member in self.members:
                member.optimizer.zero_grad(set_to_none=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was asked for that there is not (the CPU's allocator has no exception of its own)."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class JointLogits(nn.Module):
    """All members as one K-way network: of each class its logit, in a group against the group's "none".

    Some of the members may be trained by other processes; their logits come from there, and gradients stay at home.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        groups: "Sequence[Group]",
        num_classes: int,
        group: ProcessGroup | None = None,
    ) -> None:
        """Put members together.

        Args:
            networks: those of this process.
            groups: the classes of each; no two have a class in common.
            num_classes: K.
            group: with the processes of the other members; None: all members are here.
        """
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self._groups, self._num_classes, self._exchange = list(groups), num_classes, group

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 (N, K) for normalised images (N, C, H, W)."""
        outputs = side_by_side(self._runs(images), images)
        own = [_class_logits(output.float(), group) for output, group in zip(outputs, self._groups, strict=True)]
        columns = [on_device(group, images.device) for group in self._groups]
        everyone = images.new_zeros(len(images), self._num_classes, dtype=torch.float32)
        if self._exchange is not None:
            for logits, where in zip(own, columns, strict=True):
                everyone[:, where] = logits.detach()
            self._exchange.all_reduce_sum(everyone)
        # One by one, so that no member's gradients depend on who else is in this process, not even in their last digit.
        for logits, where in zip(own, columns, strict=True):
            everyone = everyone.index_copy(1, where, logits)
        return everyone

    def _runs(self, images: Tensor) -> list[Callable[[Tensor], Tensor]]:
        """The networks, on a CPU each with noise of its own, whoever else is in this process (a GPU captures no seeds)."""
        if images.is_cuda or not self.training:
            return list(self.networks)
        seed = torch.initial_seed()
        seeds = [seed ^ group[0] for group in self._groups]
        return [partial(_with_noise, network, own) for network, own in zip(self.networks, seeds, strict=True)]


def _with_noise(network: nn.Module, seed: int, images: Tensor) -> Tensor:
    torch.manual_seed(seed)
    return network(images)


def _class_logits(output: Tensor, group: "Group") -> Tensor:
    """(N, g): a group's logits are against its "none", where it has one."""
    return output if output.shape[1] == len(group) else output[:, 1:] - output[:, :1]
