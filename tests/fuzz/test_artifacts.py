"""No artifact and no working file, however broken, ends in anything but what it holds or one line that names it."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.analysis import runs
from sensai.analysis.grouped import Grouped
from sensai.analysis.report import study_page
from sensai.config import ReportConfig
from sensai.data.dataset import load_dataset
from sensai.data.dataset_names import InputRule
from sensai.errors import DamagedError, InputError
from sensai.stages import group, prune
from sensai.stages.evaluate import combining
from sensai.stages.report import run as make_report
from sensai.tracking import Store
from sensai.training.checkpoints import Checkpoints, TrainingHistory
from tests.analysis.conftest import Logbook
from tests.analysis.test_members import logged
from tests.analysis.test_report_of_a_study import BEST, SPACE, tuned
from tests.fuzz.inputs import as_json, damaged, documents, fuzzed, only, texts

GROUPS = {"groups": [[0, 2], [1]], "class_names": ["a", "b", "c"], "order": [2, 0, 1]}
PLANS = {"members": [{"classes": [0], "removed": {"conv": [0, 3]}}], "kept_whole": {}}
CALIBRATION = {"method": "temperature", "weight": [[1.0]], "bias": [0.0], "threshold": None}
# Each example reads from a store.
BUDGETS = [10, pytest.param(100, marks=pytest.mark.long)]

pytestmark = pytest.mark.filterwarnings("ignore:overflow")


def broken(document: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """The document damaged, with other values, with keys twice, or something else."""
    text = as_json(document)
    others = st.dictionaries(st.sampled_from(list(document)), documents(*document), max_size=2)
    changed = others.map(lambda more: as_json({**document, **more}))
    twice = others.map(lambda more: text[:-1] + b", " + as_json(more)[1:] if more else text)
    nested = st.sampled_from(
        [b"[" * 10_000, b'{"groups": ' * 10_000, b"\xff\xfe", b"", text.replace(b"0", b"9" * 5000)]
    )
    odd = texts.map(lambda each: each.encode(errors="surrogatepass"))
    return st.one_of(damaged(st.just(text)), changed, twice, nested, odd, documents(*document).map(as_json))


def artifact(folder: Path, name: str) -> Path:
    """The one artifact of a name below a test's folder."""
    (found,) = (folder / "artifacts").rglob(name)
    return found


def assert_partition(groups: Any, classes: int) -> None:
    labels = [label for each in groups for label in each]
    assert {*map(type, labels)} <= {int}
    assert sorted(labels) == [*range(classes)]
    assert () not in groups


@given(broken(GROUPS))
@fuzzed
def test_groups(content: bytes) -> None:
    try:
        found = Grouped.from_json(content)
    except (ValueError, LookupError, TypeError, RecursionError, AttributeError):
        return
    assert () not in found.groups
    assert all({*map(type, group)} <= {int} and len({*group}) == len(group) for group in found.groups)
    assert {label for group in found.groups for label in group} == {*range(len(found.class_names))}
    assert_partition([found.order] if found.order else [], len(found.class_names))


@pytest.mark.parametrize(
    "change",
    [
        *({"groups": groups} for groups in ([[0, 1]], [[0, 1, 2, 0]], [[0, 1, 2], []], [[0, 1, 3]], [[0, 1, -1]])),
        *({"groups": groups} for groups in ([[0, True, 2]], [[0, 1.0, 2]], [["0", 1, 2]], "012", [0, 1, 2])),
        *({"class_names": names} for names in (["a", "b"], ["a", "b", 3])),
        *({"order": order} for order in ([0, 1], [0, 1, 1], [0, 1, True + 1.0])),
    ],
)
def test_groups_that_lack_a_class_or_have_it_twice(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Grouped.from_json(as_json({**GROUPS, **change}))


@pytest.mark.parametrize("examples", BUDGETS)
@pytest.mark.parametrize(
    ("name", "document", "load"),
    [
        ("groups.json", GROUPS, group.load),
        ("plans.json", PLANS, prune.load),
        ("calibration.json", CALIBRATION, combining.load),
    ],
)
def test_what_stages_read(
    store_uri: str, tmp_path: Path, name: str, document: dict[str, Any], load: Any, examples: int
) -> None:
    store = Store.connect()
    with store.create("any", None, {}).closing() as run:
        run.log_json(document, name)
    path = artifact(tmp_path, name)

    @given(broken(document))
    @settings(fuzzed, max_examples=examples)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        with only(InputError):
            load(store, run.id)

    check()
    path.write_bytes(b"{")
    with pytest.raises(InputError, match=rf"run {run.id}: its artifact '{name}' cannot be read .*force=true"):
        load(store, run.id)


@pytest.mark.parametrize("fraction", [0.5, "0", None, 2**70])
def test_plans_of_what_is_no_channel(store_uri: str, fraction: Any) -> None:
    store = Store.connect()
    with store.create("any", None, {}).closing() as run:
        run.log_json({"members": [{"classes": [0], "removed": {"conv": [fraction]}}]}, "plans.json")
    with pytest.raises(InputError, match=r"plans\.json' cannot be read"):
        prune.load(store, run.id)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 10_000, b"\xff\xfe", b"null", b'{"groups": [[0], [-1]], "class_names": ["one", "two"]}'],
)
def test_classes_of_members(store_uri: str, tmp_path: Path, content: bytes) -> None:
    retrain_run = logged(Store.connect(), [["one"], [f"class {number}" for number in range(1000)]])
    artifact(tmp_path, "groups.json").write_bytes(content)
    with pytest.warns(UserWarning, match="cut short"):
        assert runs.members([retrain_run])["classes"].tolist() == ["one", "class 0+... (1000 classes)"]


@pytest.mark.parametrize("examples", BUDGETS)
@pytest.mark.parametrize(
    ("name", "document"), [("space.json", SPACE), ("best.json", BEST), ("trials.csv", {"trial": 0})]
)
def test_pages_on_studies(store_uri: str, tmp_path: Path, name: str, document: dict[str, Any], examples: int) -> None:
    client = mlflow.MlflowClient(store_uri)
    run_id, _ = tuned(Logbook(client, client.get_experiment_by_name("test").experiment_id))
    path = artifact(tmp_path, name)

    @given(broken(document))
    @settings(fuzzed, max_examples=examples)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        with only(DamagedError):
            assert study_page.render(run_id, store_uri, {}).startswith("<!")

    check()
    path.write_bytes(b"")
    with pytest.raises(InputError, match=rf"run {run_id}: its artifact '{name}' cannot be read"):
        make_report(ReportConfig(from_run=run_id))


def test_checkpoints_of_a_training(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write({"a": torch.arange(3)}, TrainingHistory([{"loss": 1.0}]), {"schedule": "{}"})
    (path,) = tmp_path.iterdir()

    @given(st.one_of(damaged(st.just(path.read_bytes())), st.binary(max_size=60)))
    @fuzzed
    def check(content: bytes) -> None:
        path.write_bytes(content)
        for read in (checkpoints.read, checkpoints.history):
            with only(InputError):
                read()

    check()
    path.write_bytes(b"")
    with pytest.raises(InputError, match=rf"{path.name}' cannot be read .* remove it: training then goes on"):
        checkpoints.read()


@pytest.mark.parametrize("name", ["manifest.json", "train_images.npy", "train_labels.npy"])
def test_prepared_data_sets(tmp_path: Path, name: str) -> None:
    def load() -> int:
        return len(load_dataset("digits", "", work_dir=tmp_path, rule=InputRule(None, None)).train)

    count = load()
    (path,) = tmp_path.rglob(name)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"[" * 10_000, b"\0" * len(whole), whole[:-8]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"the prepared data set .* cannot be read .*; remove the folder"):
            load()
    path.write_bytes(whole)
    assert load() == count
