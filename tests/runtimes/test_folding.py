"""Batch norms are folded wherever they stand, and nothing else changes."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensai.models.widths import set_layer_widths
from sensai.pruning import prune
from sensai.runtimes import Prepared
from sensai.runtimes.export import export_onnx
from sensai.runtimes.folding import folded
from sensai.runtimes.onnx_session import merged
from tests.helpers.networks import images_for, make, random_plan, randomise, sites_of


class Norms(nn.Module):
    """Batch norms behind a convolution, one with a bias, one that is read twice, one in groups; behind a ReLU; behind a linear
    layer; without weights; and one that goes by the batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(2, 4, 3, bias=False)
        self.biased = nn.Conv2d(4, 4, 3, padding="same")
        self.twice = nn.Conv2d(4, 4, 1)
        self.grouped = nn.Conv2d(4, 8, 3, groups=2, stride=2)
        self.bare = nn.BatchNorm2d(4)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in (4, 4, 8, 8))
        self.linear = nn.Linear(8, 5)
        self.last = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, after = self.norms
        x = F.relu(first(self.plain(x)))
        x = F.relu(self.bare(self.biased(x)))
        x = self.twice(x)
        x = F.relu(second(x) + x)
        x = after(F.relu(third(self.grouped(x))))
        return self.last(self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1)))


def norms() -> nn.Module:
    torch.manual_seed(0)
    network = randomise(Norms())
    network.bare.weight = network.bare.bias = None
    network.last.running_mean.uniform_(-1, 1)
    network.last.running_var.uniform_(0.5, 2)
    return network


def images(count: int) -> Tensor:
    return torch.randn(count, 2, 9, 9, generator=torch.Generator().manual_seed(count))


def test_every_batch_norm_is_folded_and_the_answers_stay() -> None:
    network = norms()
    graph = folded(network, images(2))
    assert not [node for node in graph.graph.nodes if node.target is torch.ops.aten.batch_norm.default]
    with torch.no_grad():
        for count in (1, 5):
            torch.testing.assert_close(graph(images(count)), network(images(count)), atol=1e-5, rtol=1e-5)


def test_a_norm_by_the_batch_stays() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    graph = folded(network, images(2))
    with torch.no_grad():
        torch.testing.assert_close(graph(images(3)), network(images(3)))


class Emptied(nn.Module):
    """Branches of no channels beside others: added behind a ReLU, to a convolution, in place, read by a padded and an unpadded
    convolution and by pooling; concatenated; and one that computes with what came of nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.inside = nn.ModuleList(nn.Conv2d(4, 3, kernel, padding=kernel // 2) for kernel in (1, 3, 3, 1))
        self.outside = nn.ModuleList(nn.Conv2d(3, 4, 1, bias=position > 1) for position in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(4))
        self.mixed = nn.Conv2d(4, 4, 3, padding=1)
        self.padded = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.unpadded = nn.Conv2d(4, 8, 3, stride=2, groups=2)
        self.linear = nn.Linear(12, 5)

    def branch(self, x: Tensor, number: int) -> Tensor:
        out: Tensor = self.norms[number](self.outside[number](F.relu(self.inside[number](x), inplace=number == 1)))
        return out

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.branch(x, 0))
        out = self.branch(x, 1)
        out += x
        x = F.relu(out, inplace=True)
        x = F.relu(self.padded(x) + x)
        x = F.relu(self.mixed(self.branch(x, 2)) + x)
        pooled = self.unpadded(x).mean((2, 3))
        return self.linear(torch.cat([pooled, self.inside[0](x).mean((2, 3)), self.branch(x, 3).mean((2, 3))], 1))


def emptied() -> nn.Module:
    torch.manual_seed(0)
    network = randomise(Emptied())
    for inside, outside in zip(network.inside, network.outside, strict=True):
        inside.weight, inside.bias = (nn.Parameter(each[:0]) for each in (inside.weight, inside.bias))
        set_layer_widths(inside, (0, 4, 1))
        outside.weight = nn.Parameter(outside.weight[:, :0])
        set_layer_widths(outside, (4, 0, 1))
    return network


def test_a_branch_without_channels_costs_next_to_nothing() -> None:
    network = emptied()
    (model,) = export_onnx([graph := folded(network, images(2))], images(2))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        for count in (1, 5):
            expected = network(images(count))
            torch.testing.assert_close(graph(images(count)), expected, atol=1e-5, rtol=1e-5)
            (outputs,) = session.run(None, {"images": images(count).numpy()})
            torch.testing.assert_close(torch.from_numpy(outputs), expected, atol=1e-5, rtol=1e-5)
    operators = Counter(node.op_type for node in model.graph.node)
    # The two blocks are gone but for what the padded convolution must read; its own sum and that behind it stay.
    assert (operators["Conv"], operators["Add"], operators["Relu"]) == (3, 3, 3)
    assert all(value.numel() for value in graph.state_dict().values())


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_block_without_channels_is_not_in_the_exported_network(block: str) -> None:
    network, spec = make("resnet20", {"block": block})
    sites = sites_of("resnet20", {"block": block})
    gone = {name for number in ("1.1", "2.0", "3.1") for name in sites.branches[f"layer{number}.conv1"]}
    member = prune(network, sites, {each.name: np.arange(each.channels) for each in sites.sites if each.name in gone})
    example = images_for(spec, 2)
    model, base = export_onnx([member, network], example)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(session.run(None, {"images": example.numpy()})[0]), member(example), atol=1e-5, rtol=1e-5
        )
    operators, whole = (Counter(node.op_type for node in each.graph.node) for each in (model, base))
    assert whole["Conv"] - operators["Conv"] == 3 * (2 if block == "basic" else 3)
    # Of a block with a projection the ReLU stays; a 3x3 convolution or pooling reads what is left of the shifts.
    assert whole["Relu"] - operators["Relu"] == 3 * (2 if block == "basic" else 3) - 1
    assert whole["Add"] - operators["Add"] == (1 if block == "basic" else 2)


@pytest.mark.parametrize("emptied", [0, 0.5])
def test_shortcuts_without_parameters_between_narrower_streams_are_exported(emptied: float) -> None:
    network, spec = make("resnet20", {"shortcut": "parameter_free"})
    sites = sites_of("resnet20", {"shortcut": "parameter_free"})
    member = prune(network, sites, random_plan(sites, 0.6, 1, emptied))
    example = images_for(spec, 2)
    (model,) = export_onnx([member], example)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(session.run(None, {"images": example.numpy()})[0]), member(example), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(folded(member, example)(example), member(example), atol=1e-5, rtol=1e-5)


def test_onnx_runtime_is_left_with_fused_convolutions(prepared: Prepared, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    model = merged([member.onnx for member in prepared.members])
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert operators.count("FusedConv") == 4 * len(prepared.members)
    assert not {"BatchNormalization", "Relu", "Expand", "Range", "Gather"} & set(operators)


def test_the_exported_network_takes_any_number_of_images() -> None:
    network = norms()
    (model,) = export_onnx([network], images(2))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        for count in (1, 4):
            (outputs,) = session.run(None, {"images": images(count).numpy()})
            torch.testing.assert_close(torch.from_numpy(outputs), network(images(count)), atol=1e-5, rtol=1e-5)
