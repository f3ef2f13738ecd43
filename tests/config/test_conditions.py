"""Conditions: evaluated with every truth value, the unknown one included, and shown as text."""

from itertools import product
from types import SimpleNamespace

import pytest

from sensai.config.conditions import ALWAYS, Above, Condition, Given, Is, Uses
from sensai.grouping.methods import METHODS

TRUE, FALSE, UNKNOWN = Is("given", 1), Is("given", 2), Is("missing", 1)
VALUES = {TRUE: True, FALSE: False, UNKNOWN: None}
CONFIG = SimpleNamespace(given=1)


def test_the_truth_values_of_single_statements() -> None:
    config = SimpleNamespace(policy="ratio", empty="", none=None, pairs=(), epochs=0, method="random")
    assert Is("policy", "ratio")(config) is True
    assert Is("policy", "threshold")(config) is False
    assert [Given(name)(config) for name in ("policy", "empty", "none", "pairs")] == [True, False, False, False]
    # Zero is a value.
    assert Given("epochs")(config) is True
    assert [Above("epochs", limit)(config) for limit in (-1, 0)] == [True, False]
    assert Uses("method", METHODS, "n_groups")(config) is True
    assert Uses("method", METHODS, "similarity")(config) is False
    assert Above("missing", 1)(config) is None
    assert ALWAYS(config) is True


@pytest.mark.parametrize(("first", "second"), product(VALUES, repeat=2))
def test_conditions_combine_as_in_three_valued_logic(first: Condition, second: Condition) -> None:
    # Kleene's logic: unknown lies between false and true, `and` is the least, `or` the greatest.
    rank = {False: 0, None: 1, True: 2}
    known = {number: value for value, number in rank.items()}
    a, b = rank[first(CONFIG)], rank[second(CONFIG)]
    assert (first & second)(CONFIG) is known[min(a, b)]
    assert (first | second)(CONFIG) is known[max(a, b)]
    assert (~first)(CONFIG) is known[2 - a]


def test_conditions_tell_their_parameters_and_read_as_text() -> None:
    condition = (Is("policy", "ratio") & ~Given("target_flops")) | Above("epochs", 0)
    assert condition.names == {"policy", "target_flops", "epochs"}
    assert str(condition) == "policy is ratio and target_flops is not given or epochs is above 0"
    assert str(~(Is("a", 1) | Is("b", 2)) & Is("c", 3)) == "not (a is 1 or b is 2) and c is 3"
    assert str((Is("a", 1) | Is("b", 2)) & Is("c", 3)) == "(a is 1 or b is 2) and c is 3"
