"""Measure training on a GPU: passes launched operator by operator, against passes captured as CUDA graphs.

python benchmarks/captured.py [--arch vgg11_bn resnet20] [--members 10] [--batch 128] [--steps 30] [--share 0.125]
    [--round_to 1] [--scope all]

Binary members have random weights and random plans, and at most `share` of the base model's FLOPs. They train in bf16 on random
images: each by itself (`bce`), and all together (`joint`). The times are milliseconds for one step of all members. Each is the
median of steps that alternate between the two ways. Needs a GPU.
"""

import argparse
import copy
import json
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
import torch
from synthetic import add_member_arguments, random_ensemble
from torch import nn

from sensai.ensemble import Ensemble
from sensai.evaluation import host
from sensai.models.layout import laid_out
from sensai.runtimes import in_turn
from sensai.training.captured import captured
from sensai.training.checkpoints import Checkpoints
from sensai.training.joint_trainer import JointLogits, JointTrainer
from sensai.training.member_trainer import MemberTrainer
from sensai.training.objectives import Objective
from sensai.training.training_config import OptimizerConfig

_OPTIMIZER = OptimizerConfig(epochs=1000, lr=0.01, weight_decay=5e-4, metric="accuracy")


def main() -> None:
    """Print a table for people and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["vgg11_bn", "resnet20"])
    add_member_arguments(parser, share=0.125, round_to=1)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("captured: this benchmark needs a GPU, and there is none")
    rows = [_measure(arch, loss, arguments) for arch, loss in product(arguments.arch, ("bce", "joint"))]
    print(pd.DataFrame(rows).round(2).to_string(index=False))
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    print(json.dumps({"benchmark": "captured", "host": host(), "rows": rows}))


def _measure(arch: str, loss: str, arguments: argparse.Namespace) -> dict[str, object]:
    _, ensemble = random_ensemble(arch, arguments.share, arguments.round_to, arguments.scope, arguments.members)
    device, classes = torch.device("cuda"), len(ensemble.class_names)
    images = torch.rand(arguments.batch, *ensemble.spec.input_shape, device=device)
    images = images.contiguous(memory_format=ensemble.spec.memory_format)
    labels = torch.arange(arguments.batch, device=device) % classes
    with tempfile.TemporaryDirectory() as folder:
        calls = {
            name: _step(_trainers(copy.deepcopy(ensemble).to(device), loss, wrap, Path(folder) / name), images, labels)
            for name, wrap in (("launched", lambda model: model), ("captured", lambda model: captured(model, device)))
        }
        seconds = {name: float(np.median(each)) for name, each in in_turn(calls, arguments.steps).items()}
    milliseconds = {f"{name}_ms": each * 1e3 for name, each in seconds.items()}
    gain = seconds["launched"] / seconds["captured"]
    return {"arch": arch, "loss": loss, "members": arguments.members, **milliseconds, "launched / captured": gain}


def _trainers(
    ensemble: Ensemble, loss: str, wrap: Callable[[nn.Module], nn.Module], folder: Path
) -> list[JointTrainer]:
    classes = len(ensemble.class_names)
    networks = [laid_out(member.network, ensemble.spec.memory_format) for member in ensemble.members]
    trainers = [
        MemberTrainer(network, _OPTIMIZER, 1000, Checkpoints(folder / str(number)))
        for number, network in enumerate(networks)
    ]
    if loss == "joint":
        model = JointLogits(networks, range(len(networks)), ensemble.groups, classes)
        return [JointTrainer(wrap(model), Objective.multiclass(classes), trainers, precision="bf16")]
    return [
        JointTrainer(wrap(network), Objective.unweighted(member.classes, classes), [trainer], precision="bf16")
        for network, member, trainer in zip(networks, ensemble.members, trainers, strict=True)
    ]


def _step(trainers: list[JointTrainer], images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    for trainer in trainers:
        trainer.begin_epoch()

    def step() -> None:
        for trainer in trainers:
            trainer.step(images, labels, None)
        torch.cuda.synchronize()

    return step


if __name__ == "__main__":
    main()
