"""Measure the cost of the statistics: the pass with statistics of all classes / the same forward pass without them.

python benchmarks/scoring.py [--pairs 10] [--networks vgg19_bn resnet110 resnet50] [--classes 10 100 1000] [--taylor]

The two passes take turns, batch by batch. The plain pass is the network in eval mode without gradients, on the same input
(channels last, as in the stages). vgg19_bn and resnet110 take 32x32 pixels; resnet50 is torchvision's, with 224x224.

`with / without` is the median of the ratios of neighbouring batches, `fastest` the ratio of the two fastest batches.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torchvision
from torch import Tensor, nn

from sensai.activations import ActivationReader, TaylorReader
from sensai.evaluation import host
from sensai.models.factory import NetworkSpec, build
from sensai.sites import find_sites

_LARGE = "resnet50"


def main() -> None:
    """Print a table for people and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--networks", nargs="+", default=["vgg19_bn", "resnet110", _LARGE])
    parser.add_argument("--classes", nargs="+", type=int, default=[10, 100, 1000])
    parser.add_argument("--taylor", action="store_true", help="measure the pass for `taylor`, which also goes backward")
    arguments = parser.parse_args()
    reader = TaylorReader if arguments.taylor else ActivationReader
    print(f"{'network':12} {'classes':>7} {'plain img/s':>12} {'with / without':>15} {'fastest':>9}")
    rows = []
    for arch in arguments.networks:
        for classes in arguments.classes:
            row = {"arch": arch, "classes": classes, **_measure(reader, arch, classes, arguments.pairs)}
            print(f"{arch:12} {classes:7} {row['plain_images_per_s']:12.1f} {row['ratio']:15.3f} {row['fastest']:9.3f}")
            rows.append(row)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    name = "taylor" if arguments.taylor else "scoring"
    print(json.dumps({"benchmark": name, "host": host(), "peak_rss_mib": round(peak), "rows": rows}))


def _measure(reader: type[ActivationReader], arch: str, classes: int, pairs: int) -> dict[str, float]:
    """Return the median of the pairs' ratios, the ratio of the two fastest passes, and the speed of the plain pass."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, side, batch = _network(arch, classes)
    model = model.eval().to(device)
    images = torch.randn(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=device) % classes
    counting = reader(model, find_sites(model, images[:2]).sites, images[:2], classes)
    times = [(_seconds(counting.read, images, labels), _seconds(model, images)) for _ in range(pairs + 1)]
    # The first pair only warms up.
    counted, plain = zip(*times[1:], strict=True)
    return {
        "ratio": statistics.median(own / other for own, other in zip(counted, plain, strict=True)),
        "fastest": min(counted) / min(plain),
        "plain_images_per_s": batch / statistics.median(plain),
    }


def _network(arch: str, classes: int) -> tuple[nn.Module, int, int]:
    """Return a network, the side of its input, and the images of a batch."""
    if arch == _LARGE:
        return torchvision.models.resnet50(num_classes=classes), 224, 32
    return build(NetworkSpec(arch, classes, 3, (32, 32))), 32, 256


@torch.no_grad()
def _seconds(call: Callable[..., Tensor], *arguments: Tensor) -> float:
    start = time.perf_counter()
    call(*arguments)
    if arguments[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
