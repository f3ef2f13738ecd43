"""Batch norms are gone from what runs, wherever they stood, and nothing else has changed."""

from pathlib import Path

import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensai.runtimes import Prepared
from sensai.runtimes.export import export_onnx
from sensai.runtimes.folding import folded
from sensai.runtimes.onnx_runtimes import merged
from tests.helpers.networks import randomise


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
