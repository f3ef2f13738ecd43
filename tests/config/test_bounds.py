"""Every parameter of every entry point has bounds: no value of any kind passes the command line unchecked."""

from itertools import product

import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.utils.models import get_model_name_and_version
from pydantic import ValidationError

from sensai.config import CONFIGS, EntryPoint, describe_errors
from sensai.config.annotations import is_number
from sensai.config.bounds import MOST_SEED
from sensai.config.usage import defaults_of

NUMBERS = ["9" * 400, "-" + "9" * 400, "9" * 5000, "1e308", "nan", "inf", 10**30]
TEXTS = ["\0", "a\0b", "\ud800", "x" * 10_000, "/x" * 10_000]
LINES = ["x\ny", "\x1b[2J", "\u2028"]
# Of which the values may have several lines, since they are JSON or names of files.
MANY_LINES = {
    "arch_args",
    "data_dir",
    "work_dir",
    "checkpoint",
    "groups_file",
    "space",
    "images",
    "token_file",
    "access_log",
}

each_entry_point = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def numbers(config: type[EntryPoint]) -> list[str]:
    return [name for name, field in config.model_fields.items() if is_number(field.annotation)]


def texts(config: type[EntryPoint]) -> list[str]:
    return [name for name, default in defaults_of(config).items() if isinstance(default, str)]


def refused(config: type[EntryPoint], **values: object) -> str:
    with pytest.raises(ValidationError) as error:
        config.model_validate(values)
    line = describe_errors(error.value)
    assert "\n" not in line
    assert len(line) < 1000
    return line


@each_entry_point
def test_numbers(config: type[EntryPoint]) -> None:
    for name, value in product(numbers(config), NUMBERS):
        assert f"{name}=" in refused(config, **{name: value})


@each_entry_point
def test_the_bounds_stand_in_the_message(config: type[EntryPoint]) -> None:
    for name in numbers(config):
        assert "less than" in refused(config, **{name: 10**12})
        assert "greater than" in refused(config, **{name: -1})


@each_entry_point
def test_texts(config: type[EntryPoint]) -> None:
    assert set(MANY_LINES) <= {name for each in CONFIGS.values() for name in texts(each)}
    for name in texts(config):
        for value in [*TEXTS, *(LINES if name not in MANY_LINES else [])]:
            assert f"{name}=" in refused(config, **{name: value})


@pytest.mark.parametrize(
    ("stage", "name", "value", "said"),
    [
        ("baseline", "device", "cuda:99999999999999999999", "n from 0 to 99"),
        ("baseline", "device", "cuda:00", "n from 0 to 99"),
        ("baseline", "device", "cuda:\u0661", "n from 0 to 99"),
        ("baseline", "base_lr", "1e308", "less than or equal to 1000"),
        ("baseline", "base_weight_decay", "1e300", "less than or equal to 1000"),
        ("baseline", "image_size", "100000", "less than or equal to 4096"),
        ("baseline", "arch_args", "[" * 3000, "nested more than 50 levels deep"),
        ("baseline", "arch_args", '{"a":1,"a":2}', "'a' stands twice"),
        ("baseline", "arch_args", '{"a":NaN}', "nan is no number"),
        ("baseline", "mean", "0.5,1e308", "each up to 10000"),
        ("baseline", "std", "1e-300", "0.0001 at least"),
        ("baseline", "checkpoint", "x" * 256, "at most 255 between slashes"),
        ("baseline", "work_dir", "", "must not be empty"),
        ("prune", "from_run", "../../x", "must be the id of a run"),
        ("prune", "from_run", "a'b", "must be the id of a run"),
        ("retrain", "budget", "9" * 30 + "epochs", "of at most 9 digits"),
        ("retrain", "budget", "1" * 30 + "s", "of at most 9 digits"),
        ("retrain", "ray_address", "nowhere", "must be auto or host:port"),
        ("retrain", "ray_address", "host:99999", "must be auto or host:port"),
        ("retrain", "ray_address", "a..b:1", "must be auto or host:port"),
        ("report", "compare_runs", "a,b/c", "must be the ids of two or more runs"),
        ("tune", "fidelities", "0,99999999", "each from 0 to 1000000, not '99999999'"),
        ("grouping_study", "group_counts", "1,200000", "each from 1 to 100000, not '200000'"),
        ("grouping_study", "group_counts", "", "one or more whole numbers"),
        ("grouping_study", "ratios", "", "must be shares"),
        ("grouping_study", "methods", "", "'' is no method"),
        ("contention", "trainings", "1,5000", "each from 1 to 1024, not '5000'"),
        ("contention", "tasks", "", "'' is nothing that is measured"),
        ("contention", "tasks", "training,scorin", "did you mean scoring?"),
        ("serve", "host", "", "must be the name or the IP address"),
        ("serve", "host", "a..b", "must be the name or the IP address"),
        ("serve", "host", "x" * 64, "must be the name or the IP address"),
        ("serve", "resources", "a=1.5", "amounts up to 1 or whole"),
        ("serve", "resources", "a=1,a=2", "each name once"),
        ("serve", "resources", "a=1e400", "amounts up to 1 or whole"),
        ("serve", "model_uri", " ", "must not be empty"),
        ("register", "model_name", "x\ny", "letters, digits"),
        ("register", "model_name", "x ", "letters, digits"),
        ("register", "model_name", "  ", "letters, digits"),
        ("register", "model_name", "a#b", "letters, digits"),
        ("register", "model_name", "a?b", "letters, digits"),
        ("register", "model_name", "a%20b", "letters, digits"),
        ("register", "model_name", "a@b", "letters, digits"),
        ("register", "model_name", "..", "letters, digits"),
        ("register", "model_name", "x" * 201, "at most 200"),
        ("register", "dataset", "x" * 300 + ".py:make", "at most 255 between slashes"),
    ],
)
def test_what_is_said(stage: str, name: str, value: str, said: str) -> None:
    assert said in refused(CONFIGS[stage], **{name: value})


@pytest.mark.parametrize(
    ("stage", "values"),
    [
        ("baseline", {"device": "cuda:7", "image_size": 4096, "base_lr": 1000, "mean": "0.5, 0.5", "std": "1e-3"}),
        ("baseline", {"work_dir": "my run/é #%?'\"/" + "x" * 255, "arch_args": ' {\n"block": "basic"}'}),
        ("baseline", {"dataset": "some folder/my data.py:make"}),
        ("retrain", {"backend": "ray", "ray_address": "10.0.0.5:6379"}),
        ("retrain", {"backend": "ray", "ray_address": "[::1]:6379", "budget": "0.5s"}),
        ("retrain", {"backend": "ray", "ray_address": "auto", "budget": "999999999epochs"}),
        ("serve", {"host": "::1", "ray_address": "auto", "resources": "near_camera=0.5, b=3"}),
        ("serve", {"host": "127.0.0.2", "model_uri": "models:/a b.c@champion", "follow_alias": True}),
        ("serve", {"host": "my-machine.example.org", "token_file": "token"}),
        ("serve", {"host": "0.0.0.0", "open_to_all": True}),
        ("serve", {"backend": "ray", "shards": 4, "replicas": 2, "threads": 2}),
        ("register", {"model_name": "Früh-1_x+y v2.0"}),
        ("report", {"compare_runs": "a1, b2"}),
        ("grouping_study", {"seed": MOST_SEED - 4, "group_counts": "2, 3", "ratios": "0.3, 0.5"}),
    ],
)
def test_what_is_allowed(stage: str, values: dict[str, object]) -> None:
    CONFIGS[stage].model_validate(values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"host": "0.0.0.0"},
            "host='0.0.0.0': others than this machine could ask; give token_file, or open_to_all=true",
        ),
        ({"host": "::"}, "host='::': others than this machine"),
        ({"host": "my-machine.example.org"}, "others than this machine"),
        ({"shards": 4, "threads": 2}, "shards=4, threads=2: goes with backend=ray or ray_address"),
        ({"follow_alias": True, "backend": "ray"}, "follow_alias=true: goes with backend=local"),
        ({"follow_alias": True, "ray_address": "auto"}, "follow_alias=true: goes with backend=local"),
        ({"follow_alias": True, "model_uri": "models:/a/1"}, "model_uri='models:/a/1': with follow_alias=true must be"),
    ],
)
def test_what_a_server_is_refused(values: dict[str, object], said: str) -> None:
    assert said in refused(CONFIGS["serve"], **values)


def test_seeds_of_repeats() -> None:
    assert "repeats=5" in refused(CONFIGS["grouping_study"], seed=MOST_SEED - 3)


def test_a_configuration_fits_into_a_tag() -> None:
    name = "/".join(["x" * 250] * 12)
    line = refused(CONFIGS["tune"], data_dir=name, checkpoint=name, work_dir=name, space=name)
    assert "at most 8000 characters" in line


@pytest.mark.parametrize("name", ["Früh-1_x+y v2.0", "x" * 200, "1", "latest"])
def test_the_registry_and_its_uris_bear_the_names_of_models(store_uri: str, name: str) -> None:
    CONFIGS["register"].model_validate({"model_name": name})
    client = MlflowClient(store_uri)
    client.create_registered_model(name)
    client.create_model_version(name, "some/folder")
    client.set_registered_model_alias(name, "champion", "1")
    for uri in (f"models:/{name}@champion", f"models:/{name}/1"):
        assert tuple(map(str, get_model_name_and_version(client, uri))) == (name, "1")
    assert [found.name for found in client.search_model_versions(f"name='{name}'")] == [name]
