"""Compare a residual member as sensAI exports it to ONNX with the same network written in ONNX by hand.

python benchmarks/handbuilt.py [--arch resnet110 resnet164] [--share 0.0625] [--round_to 4] [--scope all] [--repeats 60]

The binary member has random weights and a random plan. ONNX Runtime runs it on one thread for one normalised 32x32 image. The
handwritten network has one Conv with bias for each convolution with its batch norm. Its other operators are Relu, Add,
GlobalAveragePool, Flatten and Gemm. The script checks first that both networks give the same outputs.

`ratio` is the time of the exported network / that of the handwritten one: medians of calls that alternate between the two.
`ratio_cpu` is the same in processor time, which other work on the machine does not change.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx import helper, numpy_helper
from synthetic import add_member_arguments, random_ensemble
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from sensai.evaluation import host
from sensai.models.resnet import ResNet
from sensai.runtimes import in_turn, prepare

_OPSET = 20


def main() -> None:
    """Print a table for people, and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["resnet110", "resnet164"], help="residual nets for 32x32 input")
    add_member_arguments(parser, share=1 / 16, round_to=4)
    parser.add_argument("--repeats", type=int, default=60)
    arguments = parser.parse_args()
    rows = [_measure(arch, arguments) for arch in arguments.arch]
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    print(json.dumps({"benchmark": "handbuilt", "host": host(), "rows": rows}))


def _measure(arch: str, arguments: argparse.Namespace) -> dict[str, object]:
    _, ensemble = random_ensemble(arch, arguments.share, arguments.round_to, arguments.scope, members=2)
    member = prepare(ensemble).members[0]
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
    sessions = {"exported": _session(member.onnx), "by hand": _session(_HandwrittenModel(member.network).model)}
    outputs = {name: session.run(None, {"images": image})[0] for name, session in sessions.items()}
    scale = max(1.0, float(np.abs(outputs["by hand"]).max()))
    np.testing.assert_allclose(outputs["exported"] / scale, outputs["by hand"] / scale, atol=1e-5)
    calls = {name: lambda session=session: session.run(None, {"images": image}) for name, session in sessions.items()}
    wall, processor = in_turn(calls, arguments.repeats), in_turn(calls, arguments.repeats, time.process_time)
    exported, hand = (float(np.median(wall[name]) * 1e3) for name in ("exported", "by hand"))
    ratio_cpu = float(np.median(processor["exported"]) / np.median(processor["by hand"]))
    return {"arch": arch, "exported_ms": exported, "hand_ms": hand, "ratio": exported / hand, "ratio_cpu": ratio_cpu}


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class _HandwrittenModel:
    """The ONNX model of a residual network with projection shortcuts, as a person would write it."""

    def __init__(self, network: nn.Module) -> None:
        assert isinstance(network, ResNet)
        self._nodes: list[onnx.NodeProto] = []
        self._values: list[onnx.TensorProto] = []
        flow = self._convolution("images", network.conv1, network.bn1, relu=True)
        for stage in network.stages():
            for block in stage.children():
                flow = self._block(flow, block)
        flow = self._node("Flatten", [self._node("GlobalAveragePool", [flow])])
        weights = [self._value(each.detach().numpy()) for each in (network.linear.weight, network.linear.bias)]
        outputs = self._node("Gemm", [flow, *weights], transB=1)
        graph = helper.make_graph(
            self._nodes,
            "by hand",
            [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["N", 3, 32, 32])],
            [helper.make_tensor_value_info(outputs, onnx.TensorProto.FLOAT, ["N", network.linear.out_features])],
            self._values,
        )
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)

    def _block(self, flow: str, block: nn.Module) -> str:
        last = "3" if hasattr(block, "conv3") else "2"
        out = flow
        for number in ("1", "2", "3"):
            if hasattr(block, f"conv{number}"):
                layers = getattr(block, f"conv{number}"), getattr(block, f"bn{number}")
                out = self._convolution(out, *layers, relu=number != last)
        if isinstance(block.shortcut, nn.Sequential):
            flow = self._convolution(flow, *block.shortcut, relu=False)
        return self._node("Relu", [self._node("Add", [out, flow])])

    def _convolution(self, flow: str, layer: nn.Conv2d, norm: nn.BatchNorm2d, *, relu: bool) -> str:
        fused = fuse_conv_bn_weights(
            layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        weights = [self._value(each.detach().numpy()) for each in fused]
        out = self._node("Conv", [flow, *weights], strides=list(layer.stride), pads=list(layer.padding) * 2)
        return self._node("Relu", [out]) if relu else out

    def _node(self, operator: str, inputs: list[str], **attributes: object) -> str:
        output = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def _value(self, array: np.ndarray) -> str:
        name = f"value_{len(self._values)}"
        self._values.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


if __name__ == "__main__":
    main()
