"""The table of layers in the documentation is complete, and tells the truth."""

from pathlib import Path

import pytest
from torch import nn
from torch.nn.utils import parametrizations

from benchmarks.layers import documented, networks, tried, untried

TABLE = documented((Path(__file__).parents[2] / "docs" / "reference" / "layers.md").read_text())
# One network of each kind is enough; the others take a minute.
SOME = (
    *("PReLU", "Sigmoid", "MaxUnpool2d", "InstanceNorm3d", "Conv1d", "MultiheadAttention", "FractionalMaxPool2d"),
    *("parametrizations.weight_norm of the head", "LazyConv2d", "torch.autocast, on"),
)


def test_every_layer_and_wrapper_of_torch_is_in_the_table() -> None:
    layers = {name for name in dir(nn) if isinstance(kind := getattr(nn, name), type) and issubclass(kind, nn.Module)}
    assert layers <= {name.partition(",")[0] for name in TABLE}
    assert {f"parametrizations.{name} of the head" for name in parametrizations.__all__} <= TABLE.keys()
    assert list(TABLE) == [*networks(), *untried()]
    assert {row.outcome for row in TABLE.values()} == {"cut", "kept", "refused", "none"}
    assert all(bool(row.reason) == (row.outcome != "cut") for row in TABLE.values())


@pytest.mark.parametrize("name", SOME)
def test_the_table_says_what_happens(name: str) -> None:
    assert tried(name) == TABLE[name]


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in networks() if name not in SOME])
def test_the_whole_table_says_what_happens(name: str) -> None:
    assert tried(name) == TABLE[name]
