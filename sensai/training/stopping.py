"""The stop rules of a training together. Imports without torch: the analysis asks the same rules about logged curves."""

from collections.abc import Sequence
from types import SimpleNamespace

from sensai.parts import Part
from sensai.training.stop_rules import STOP_RULES

DEFAULT_STOP_RULES = ("plateau", "target")


def reason_to_stop(
    rules: Sequence[str],
    values: Sequence[float],
    *,
    patience: int,
    min_gain: float,
    target: float | None,
    last_epoch: bool = False,
) -> str:
    """Return the first rule by which a training stops now; empty where it goes on.

    Rules with the trait `goal` come first. The last epoch ends the training by `epochs`, unless a goal is reached in it.

    Args:
        rules: names in `STOP_RULES`.
        values: the validation metric of every epoch so far.
        patience: epochs without gain; 0 turns off the rules that take it.
        min_gain: what counts as gain.
        target: value of the metric; None turns off the rules that take it.
        last_epoch: the training ends with this epoch anyway.

    Raises:
        InputError: no such rule.
    """
    inputs = SimpleNamespace(values=values, patience=patience, min_gain=min_gain, target=target)
    holding = [rule for rule in _asked(rules, patience, target) if rule(inputs)]
    goals = [rule.name for rule in holding if rule.traits["goal"]]
    others = ["epochs"] if last_epoch else [rule.name for rule in holding]
    return next(iter([*goals, *others]), "")


def goals(rules: Sequence[str]) -> list[str]:
    """Return those of the rules that hold where enough is reached.

    Raises:
        InputError: no such rule.
    """
    return [rule for rule in rules if STOP_RULES[rule].traits["goal"]]


def unused_by(rules: Sequence[str], patience: int, target: float | None) -> set[str]:
    """Return which of `patience`, `min_gain` and `target` make no difference to these rules.

    Raises:
        InputError: no such rule.
    """
    named = {name for rule in rules for name in STOP_RULES[rule].uses}
    asked = {name for rule in _asked(rules, patience, target) for name in rule.uses}
    return {"patience", "target"} - named | {"min_gain"} - asked


def _asked(rules: Sequence[str], patience: int, target: float | None) -> list[Part]:
    off = {name for name, is_off in (("patience", patience == 0), ("target", target is None)) if is_off}
    return [STOP_RULES[rule] for rule in rules if not STOP_RULES[rule].uses & off]
