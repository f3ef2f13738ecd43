"""Check for every network that its pruned members compute the same as the masked network, and list what can be removed.

python benchmarks/exactness.py [--networks vgg19_bn torchvision:resnet50 timm:rexnet_100 ...] [--side 96]
python benchmarks/exactness.py --layers docs/reference/layers.md

Weights and statistics are random. Plans of ratio 0.1, 0.5 and 0.9 and a random plan prune each network in both scopes.
A line gives the numbers of sites, channels and sites kept whole (with the reasons), and three checks:

- `error`: the largest difference between the features of the pruned and the masked network, as a share of the tolerance (1e-5
  of the largest feature, at least 1e-5). Above 1 it is wrong.
- `sizes`: the predicted sizes equal those of the built member.
- `stored`: another process loads the last member from its files, and gets the same answers bit for bit.

With `--layers`, every layer of `torch.nn` is checked by itself instead, and the table is written to that file.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import layers
import numpy as np
import torch
from synthetic import random_statistics
from torch import Tensor, nn

from sensai.evaluation import host
from sensai.models.architecture_names import input_rule
from sensai.models.architectures import ARCHITECTURES
from sensai.models.factory import NetworkSpec, build
from sensai.models.libraries import library_names as names
from sensai.models.libraries import torchvision_networks
from sensai.models.storage import load_network, save_network
from sensai.policy.plans import ratio_plan
from sensai.pruning import head_rows, member_network, provable, pruning_error
from sensai.sites import Plan, SiteMap, SizePrediction, count_flops, count_params, find_sites

_CLASSES = 10
_GROUP = (1, 2)
# The windows of MaxViT fit only into images of this size.
_MAXVIT, _MAXVIT_SIDE = "torchvision:maxvit_t", 224
# Families of CNNs that torchvision has not, or builds otherwise; timm has more than a thousand networks.
_TIMM = [
    f"{names.TIMM}{name}"
    for name in (
        *("cspresnet50", "dla34", "ese_vovnet19b_dw", "ghostnet_100", "hrnet_w18_small", "inception_resnet_v2"),
        *(
            "legacy_xception",
            "mixnet_s",
            "nfnet_l0",
            "res2net50_26w_4s",
            "resnet18d",
            "rexnet_100",
            "tf_efficientnet_lite0",
        ),
    )
]


def main() -> None:
    """Print a line for each network or layer, and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=[*ARCHITECTURES, *_torchvision(), *_TIMM])
    parser.add_argument(
        "--side", type=int, default=96, help="height and width of the images, for networks that take any size"
    )
    parser.add_argument("--layers", type=Path, help="write the table of layers to this file")
    arguments = parser.parse_args()
    if arguments.layers:
        _write_layers(arguments.layers)
    else:
        _check_networks(arguments.networks, arguments.side)


def _write_layers(path: Path) -> None:
    rows = []
    for row in layers.rows():
        rows.append(row)
        print(f"{row.name:50} {row.outcome:8} {row.reason}", flush=True)
    path.write_text(layers.document(rows))
    print(json.dumps({"benchmark": "layers", "host": host(), "rows": [asdict(row) for row in rows]}))


def _check_networks(networks: Sequence[str], side: int) -> None:
    rows = []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        for name in networks:
            rows.append({"arch": name, **_check_network(name, side, other)})
            print(_line(rows[-1]), flush=True)
    wrong = [row["arch"] for row in rows if row["error_share"] > 1 or not (row["sizes_exact"] and row["stored_exact"])]
    print(f"{len(rows)} networks, wrong: {', '.join(wrong) or 'none'}")
    print(json.dumps({"benchmark": "exactness", "host": host(), "rows": rows}))


def _torchvision() -> list[str]:
    return [f"{names.TORCHVISION}{name}" for name in torchvision_networks.names()]


def _check_network(name: str, side: int, other: Executor) -> dict[str, object]:
    start = time.perf_counter()
    model, spec = _network(name, side)
    images = torch.randn(2, *spec.input_shape, generator=torch.Generator().manual_seed(0))
    found = find_sites(model, images)
    sites = provable(model, found, images)
    shares, sizes = [], []
    for scope in ("inner", "all"):
        scoped = sites.within(scope)
        prediction = SizePrediction(model, scoped, spec.input_shape)
        for plan in _plans(scoped):
            error, tolerance = pruning_error(model, scoped, plan, images)
            shares.append(error / tolerance)
            member = member_network(model, scoped, plan, _GROUP, _CLASSES)
            built = (count_params(member), count_flops(member, spec.input_shape))
            sizes.append(prediction(plan, head_rows(len(_GROUP), _CLASSES)) == built)
    return {
        "sites_inner": len(sites.within("inner").sites),
        "sites_all": len(sites.sites),
        "channels": sites.channels,
        "kept_whole": len(sites.kept_whole),
        "unproven": sorted(set(sites.kept_whole) - set(found.kept_whole)),
        "reasons": sorted(set(sites.kept_whole.values())),
        "error_share": max(shares),
        "sizes_exact": all(sizes),
        "stored_exact": _stored_exactly(member, spec, images, other),
        "seconds": time.perf_counter() - start,
    }


def _network(name: str, side: int) -> tuple[nn.Module, NetworkSpec]:
    rule = input_rule(name)
    side = _MAXVIT_SIDE if name == _MAXVIT else max(side, rule.smallest or 0)
    if name in ARCHITECTURES:
        side = rule.image_size or 32
    spec = NetworkSpec(name, _CLASSES, 3, (side, side))
    torch.manual_seed(0)
    model = build(spec)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.4, 0.4)
    return model.eval(), spec


def _plans(sites: SiteMap) -> Iterator[Plan]:
    statistics, generator = random_statistics(sites, _CLASSES), np.random.default_rng(0)
    for ratio in (0.1, 0.5, 0.9):
        yield ratio_plan(statistics, _GROUP, ratio=ratio) if statistics else {}
    yield {
        site.name: np.sort(generator.permutation(site.channels)[: generator.integers(site.channels)])
        for site in sites.sites
    }


def _stored_exactly(member: nn.Module, spec: NetworkSpec, images: Tensor, other: Executor) -> bool:
    """Return True if another process, which has only the files, gets the same answers bit for bit."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        save_network(member, spec, Path(folder))
        np.save(Path(folder) / "images.npy", images.numpy())
        answers = other.submit(_answers, folder, torch.get_num_threads()).result()
        return np.array_equal(member.eval()(images).numpy(), answers)


def _answers(folder: str, threads: int) -> np.ndarray:
    torch.set_num_threads(threads)
    loaded, _ = load_network(Path(folder))
    with torch.no_grad():
        return loaded(torch.from_numpy(np.load(Path(folder) / "images.npy"))).numpy()


def _line(row: dict[str, object]) -> str:
    return (
        f"{row['arch']:34} sites inner {row['sites_inner']:4} all {row['sites_all']:4} channels {row['channels']:7} kept whole "
        f"{row['kept_whole']:4} error {row['error_share']:6.3f} sizes {'ok' if row['sizes_exact'] else 'WRONG'} stored "
        f"{'ok' if row['stored_exact'] else 'WRONG'} {row['seconds']:6.1f} s {'; '.join(row['reasons'])}"
    )


if __name__ == "__main__":
    main()
