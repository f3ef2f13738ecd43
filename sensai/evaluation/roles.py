"""The roles of evaluated networks: an ensemble, or a yardstick that it is compared with. K classes."""

from collections.abc import Sequence

ENSEMBLE, CONTROL, REPLICAS, BASE = "ensemble", "control", "replicas", "base"
CONTROL_EQUAL_FLOPS = "control_equal_flops"
# The yardsticks that `main` makes. Each is one K-way network or several, trained by the ensemble's recipe.
YARDSTICKS = (CONTROL, REPLICAS, BASE, CONTROL_EQUAL_FLOPS)
# The base model itself, which every evaluation measures too.
BASE_MODEL = "base model"
# A word that needs an explanation beside those of `TITLES`.
MEMBER = "member"
TITLES = {
    ENSEMBLE: "ensemble",
    BASE_MODEL: "base model",
    CONTROL: "control",
    REPLICAS: "replicas",
    BASE: "base model trained further",
    CONTROL_EQUAL_FLOPS: "control of equal training FLOPs",
}
# How each is explained beside its numbers.
EXPLANATIONS = {
    BASE_MODEL: "the large network of all classes, from which the small ones are cut",
    MEMBER: "a small network that knows a few of the classes",
    ENSEMBLE: "all members, whose outputs are combined into one answer",
    CONTROL: "one network of all classes with the largest member's FLOPs",
    REPLICAS: "as many networks of all classes as members, each with the largest member's FLOPs, averaged",
    BASE: "the base model, trained further by the members' recipe",
    CONTROL_EQUAL_FLOPS: "a control that was trained with as many FLOPs as the ensemble",
}


def role_of(groups: Sequence[Sequence[int]], num_classes: int, *, is_cut: bool) -> str:
    """Return the role of members.

    Args:
        groups: the classes of each member.
        num_classes: K.
        is_cut: a member lacks channels of the base model.

    Returns:
        `control` for one cut network of all classes, `base` for one that is whole, `replicas` for several networks of all
        classes, else `ensemble`.
    """
    if any(len(set(group)) < num_classes for group in groups):
        return ENSEMBLE
    if len(groups) > 1:
        return REPLICAS
    return CONTROL if is_cut else BASE
