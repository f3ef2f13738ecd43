"""Operations on labels equal those on plain tensors."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sensai.sites.labels import (
    NEUTRAL,
    along,
    distinct,
    is_spread_over,
    narrowed,
    repeats,
    squash,
    varies,
    varies_only_along,
    vector,
)

sizes = st.lists(st.integers(1, 3), min_size=1, max_size=4)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Generate labels that change along some of their axes."""
    shape = draw(sizes)
    changing = [size if draw(st.booleans()) else 1 for size in shape]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return torch.randint(-1, 4, changing, generator=generator).expand(shape).contiguous()


def changes(labels: Tensor, axis: int) -> bool:
    return bool((labels != labels.narrow(axis, 0, 1)).any())


@settings(max_examples=200, deadline=None)
@given(tensors())
def test_squashed_labels_are_the_same_and_say_where_they_change(labels: Tensor) -> None:
    squashed = squash(labels)
    assert torch.equal(squashed, labels)
    changing = [axis for axis in range(labels.ndim) if changes(labels, axis)]
    assert [axis for axis in range(labels.ndim) if varies(squashed, axis)] == changing
    for axis in range(labels.ndim):
        assert varies_only_along(squashed, axis) == (changing in ([], [axis]))
        assert varies_only_along(squashed, axis - labels.ndim) == (changing in ([], [axis]))
        if varies_only_along(squashed, axis):
            own = along(squashed, axis)
            assert torch.equal(
                own.view([-1 if each == axis else 1 for each in range(labels.ndim)]).expand_as(labels), labels
            )
    assert vector(squashed).unique().tolist() == labels.unique().tolist()
    assert len(vector(squashed)) == torch.Size([labels.shape[axis] for axis in changing]).numel()
    assert torch.equal(distinct(labels), vector(squashed))


@settings(max_examples=100, deadline=None)
@given(tensors(), st.data())
def test_narrowed_tensors_broadcast_back_to_the_given_ones(labels: Tensor, data: st.DataObject) -> None:
    first = squash(labels)
    second = squash(labels.flip(data.draw(st.integers(0, labels.ndim - 1))))
    small = narrowed(first, second)
    assert small[0].shape == small[1].shape
    assert torch.equal(small[0].expand_as(first), first)
    assert torch.equal(small[1].expand_as(second), second)
    assert all(n == 1 or varies(first, axis) or varies(second, axis) for axis, n in enumerate(small[0].shape))


channels = torch.arange(1, 5).view(1, 4, 1, 1).expand(1, 4, 2, 3)


def test_what_repeats_all_channels_in_their_order() -> None:
    assert repeats(channels, channels)
    assert repeats(channels, squash(channels.flatten(1)))
    assert repeats(channels, squash(channels.permute(0, 2, 3, 1).flatten(1)))
    assert repeats(channels, squash(channels.repeat(1, 3, 1, 1)))
    assert repeats(channels, channels[:, :, :1])


def test_what_does_not() -> None:
    assert not repeats(channels, channels[:, :2])
    assert not repeats(channels, channels[:, :3])
    assert not repeats(channels, channels.flip(1))
    assert not repeats(channels, torch.cat([channels, channels[:, :2]], 1))
    assert not repeats(channels, torch.cat([channels, channels.flip(1)], 1))
    assert not repeats(channels, squash(channels.reshape(1, 2, 2, 2, 3)))


def test_a_constant_is_spread_where_it_has_one_value_for_all_channels() -> None:
    def constant(*shape: int) -> Tensor:
        return torch.tensor(-1).expand(shape)

    assert is_spread_over(constant(2, 3), channels)
    assert is_spread_over(constant(1, 1, 2, 3), channels)
    assert is_spread_over(constant(3), channels)
    assert not is_spread_over(constant(4, 1, 1), channels)
    assert not is_spread_over(constant(1, 4, 1, 1), channels)
    assert not is_spread_over(constant(1, 4, 2, 3), channels)
    assert not is_spread_over(constant(4), channels[..., 0, 0])
    # Neither the image nor channels are constants, and a constant is spread only over channels.
    assert not is_spread_over(torch.tensor(NEUTRAL), channels)
    assert not is_spread_over(channels, channels)
    assert not is_spread_over(constant(4, 1, 1), torch.tensor(NEUTRAL))
