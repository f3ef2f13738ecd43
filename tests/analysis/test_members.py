"""The classes of members, although a tag has limited length."""

import json

import pytest

from sensai.analysis import runs
from sensai.stages.retrain.retrain_execution import classes_tag
from sensai.tracking import Store


def logged(store: Store, groups: list[list[str]], *, with_groups: bool = True) -> str:
    """Log only what the members of a retrain run are found by, and return its id."""
    names = [name for group in groups for name in group]
    with store.create("group", None, {"sensai.stage": "group"}).closing() as run:
        if with_groups:
            content = [[names.index(name) for name in group] for group in groups]
            run.log_json({"groups": content, "class_names": names}, "groups.json")
    with store.create("retrain", None, {"sensai.stage": "retrain"}).closing() as retrain:
        pass
    for number, group in enumerate(groups):
        member_tags = {
            "sensai.stage": "member",
            "sensai.split": "val",
            "sensai.member": str(number),
            "sensai.upstream.group": run.id,
            "sensai.upstream.retrain": retrain.id,
            "sensai.classes": classes_tag(group),
        }
        with store.create(f"member {number}", None, member_tags).closing():
            pass
    return retrain.id


def test_a_member_of_few_classes_says_them_itself(store_uri: str) -> None:
    run_id = logged(Store.connect(), [["a+b", "7"], ["NA"]], with_groups=False)
    assert json.loads(classes_tag(["a+b", "7"])) == ["a+b", "7"]
    assert runs.members([run_id])["classes"].tolist() == ["a+b+7", "NA"]


@pytest.mark.parametrize("count", [100, 1000])
def test_of_many_classes_the_groups_tell(store_uri: str, count: int) -> None:
    many = [f"n{number:08d} a name" for number in range(count)]
    assert len(classes_tag(many)) < 100
    run_id = logged(Store.connect(), [["one"], many])
    assert runs.members([run_id])["classes"].tolist() == ["one", "+".join(many)]


def test_where_the_groups_are_gone_the_first_is_said_and_how_many(store_uri: str) -> None:
    run_id = logged(Store.connect(), [[f"class {number}" for number in range(1000)]], with_groups=False)
    with pytest.warns(UserWarning, match=r"cut short: the groups\.json of run [0-9a-f]+ cannot be read"):
        found = runs.members([run_id])
    assert found["classes"].tolist() == ["class 0+... (1000 classes)"]
