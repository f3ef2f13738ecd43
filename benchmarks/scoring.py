"""What the statistics cost: one pass with the statistics of all classes / the same pass without, interleaved.

python benchmarks/scoring.py [--images 512] [--repeats 5]
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from sensai.activations import ActivationReader
from sensai.evaluation import host
from sensai.models.factory import NetworkSpec, build
from sensai.sites import find_sites

_NETWORKS = ("vgg19_bn", "resnet20", "resnet110")
_CLASSES = (10, 100, 1000)
_BATCH = 128


def main() -> None:
    """Print a table for people and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    rows = [
        {"arch": arch, "classes": classes, **_measure(arch, classes, arguments.images, arguments.repeats)}
        for arch in _NETWORKS
        for classes in _CLASSES
    ]
    print(f"{'network':12} {'classes':>7} {'plain img/s':>12} {'with / without':>15}")
    for row in rows:
        print(f"{row['arch']:12} {row['classes']:7} {row['plain_images_per_s']:12.1f} {row['ratio']:15.3f}")
    print(json.dumps({"benchmark": "scoring", "host": host(), "rows": rows}))


def _measure(arch: str, classes: int, images: int, repeats: int) -> dict[str, float]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(NetworkSpec(arch, classes, 3, (32, 32))).eval().to(device)
    batches = [torch.randn(_BATCH, 3, 32, 32, device=device) for _ in range(max(images // _BATCH, 1))]
    labels = torch.arange(_BATCH, device=device) % classes
    reader = ActivationReader(model, find_sites(model, batches[0][:2]).sites, batches[0][:2], classes)
    _with(reader, batches, labels), _without(model, batches)
    pairs = [(_with(reader, batches, labels), _without(model, batches)) for _ in range(repeats)]
    return {
        "ratio": statistics.median(counted / plain for counted, plain in pairs),
        "plain_images_per_s": len(batches) * _BATCH / statistics.median(plain for _, plain in pairs),
    }


def _with(reader: ActivationReader, batches: list[torch.Tensor], labels: torch.Tensor) -> float:
    start = time.perf_counter()
    for images in batches:
        reader.read(images, labels)
    return _elapsed(start)


@torch.no_grad()
def _without(model: torch.nn.Module, batches: list[torch.Tensor]) -> float:
    start = time.perf_counter()
    for images in batches:
        model(images)
    return _elapsed(start)


def _elapsed(start: float) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
