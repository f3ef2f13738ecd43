"""A registered ensemble is opened only with the files that the store knows."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sensai.errors import InputError, shortened
from sensai.registry.registered import check_files, find, open_model
from tests.helpers.ensembles import NAMES, ensemble_of, images, probabilities, put_into_script, register, swap_artifact
from tests.helpers.pipeline import Place

ENSEMBLE = ensemble_of([(3, 0), (2,), (1,)])
OTHER = ensemble_of([(0, 1, 2, 3)])
CHANGED = "manifest.json is not the file that was registered: SHA-256 "


@dataclass(frozen=True)
class Registry:
    """Two models of one version each, whose files may be changed while the store keeps the original digest."""

    place: Place
    uris: dict[str, str]

    def files(self, model: str = "mine") -> Path:
        """Return the folder of the artifacts of a version."""
        version = self.place.client.get_model_version(model, "1")
        return Path(self.place.client.get_logged_model(version.source.rpartition("/")[2]).artifact_location[7:])


@pytest.fixture(scope="module")
def registered(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    place = Place.make(tmp_path_factory.mktemp("registry"), empty_database)
    register(place, "mine", ENSEMBLE)
    register(place, "other", OTHER)
    version = place.client.get_model_version("mine", "1")
    assert version.source.startswith("models:/m-")
    return Registry(
        place,
        {
            "number": "models:/mine/1",
            "alias": "models:/mine@champion",
            "latest": "models:/mine/latest",
            "logged model": version.source,
            "run": f"runs:/{version.run_id}/ensemble",
        },
    )


@pytest.fixture
def registry(registered: Registry) -> Iterator[Registry]:
    """Yield the registry, and undo all changes of files afterwards."""
    artifacts, kept = registered.place.folder / "artifacts", registered.place.folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(artifacts, kept)
    with registered.place.active():
        yield registered
    shutil.rmtree(artifacts)
    kept.rename(artifacts)


KINDS = ["number", "alias", "latest", "logged model", "run"]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "sensai.registry.registered"]


def test_without_a_champion_the_candidate_answers_and_the_command_that_promotes_is_told(
    empty_database: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place.make(tmp_path, empty_database)
    uri = register(place, "mine", ENSEMBLE)
    with place.active():
        assert find(place.client, uri).uri == "models:/mine/1"
        assert not told(caplog)
        place.client.delete_registered_model_alias("mine", "champion")
        assert find(place.client, uri).uri == "models:/mine/1"
        (said,) = told(caplog)
        assert said.startswith(f"{uri}: there is no champion yet; version 1 answers, the candidate.")
        assert said.endswith("sensai promote --model_name mine")
        for other in ("models:/mine@chosen", "models:/other@champion"):
            with pytest.raises(InputError, match=f"model_uri='{other}'"):
                find(place.client, other)
        place.client.delete_registered_model_alias("mine", "candidate")
        with pytest.raises(InputError, match="alias champion not found"):
            find(place.client, uri)


@pytest.mark.parametrize("kind", KINDS)
def test_by_whatever_it_is_named_the_answers_are_those_of_the_ensemble(registry: Registry, kind: str) -> None:
    with open_model(registry.place.client, registry.uris[kind]) as model:
        answers = model.predict(None, images(3))
    np.testing.assert_allclose(answers.to_numpy(), probabilities(ENSEMBLE, images(3)), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_swapped_artifact_is_refused_although_all_in_it_fits_together(registry: Registry, kind: str) -> None:
    swap_artifact(registry.files())
    # MLflow and the artifact's own script notice nothing.
    assert list(mlflow.pyfunc.load_model("models:/mine/1").predict(images(1)).columns) == list(NAMES[::-1])
    said = CHANGED if kind in KINDS[:3] else "no version that was registered from there has its files"
    uri = registry.uris[kind]
    refused = pytest.raises(InputError, match=f"^model_uri={re.escape(repr(uri))}: {said}")
    with refused, open_model(registry.place.client, uri):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_of_another_version_are_refused(registry: Registry, kind: str) -> None:
    shutil.rmtree(registry.files() / "artifacts")
    shutil.copytree(registry.files("other") / "artifacts", registry.files() / "artifacts")
    said = CHANGED if kind in KINDS[:3] else "no version .* its files, which are those of version 1 of 'other'"
    with pytest.raises(InputError, match=said), open_model(registry.place.client, registry.uris[kind]):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_was_swapped_is_refused(registry: Registry, kind: str) -> None:
    bundle = registry.files() / "artifacts" / "ensemble"
    shutil.copy(bundle / "member_001.onnx", bundle / "member_002.onnx")
    refused = pytest.raises(InputError, match=r"member_002\.onnx is not the file")
    with refused, open_model(registry.place.client, registry.uris[kind]):
        pass
    with pytest.raises(InputError, match=r"^version=1 of 'mine': member_002\.onnx is not the file"):
        check_files(registry.place.client.get_model_version("mine", "1"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_script_of_the_artifact_is_not_run(registry: Registry, kind: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    put_into_script(registry.files(), trace)
    with open_model(registry.place.client, registry.uris[kind]) as model:
        model.predict(None, images(1))
    assert not trace.exists()
    # This is how MLflow does it.
    mlflow.pyfunc.load_model(registry.uris[kind])
    assert trace.exists()


@pytest.mark.parametrize("inner", ["", "artifacts/ensemble"])
def test_a_folder_is_taken_where_the_store_knows_its_files(registry: Registry, inner: str, tmp_path: Path) -> None:
    folder = shutil.copytree(registry.files() / inner, tmp_path / "copy")
    with open_model(registry.place.client, str(folder)) as model:
        assert list(model.predict(None, images(1)).columns) == list(NAMES)
    (manifest,) = folder.rglob("manifest.json")
    manifest.write_text(f"{manifest.read_text()} ")
    with pytest.raises(InputError, match="no version that was registered from there has its files"):
        find(registry.place.client, str(folder))


def test_a_version_without_the_tag_cannot_be_compared(registry: Registry) -> None:
    client = registry.place.client
    client.create_registered_model("untagged")
    client.create_model_version("untagged", client.get_model_version("mine", "1").source)
    said = "^model_uri='models:/untagged/1': .* has no tag sensai.manifest to compare them with; register it again"
    with pytest.raises(InputError, match=said):
        find(client, "models:/untagged/1")


def test_a_bundle_of_an_older_format_is_refused(registry: Registry) -> None:
    client, (manifest,) = registry.place.client, registry.files().rglob("manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format_version": 2}))
    client.create_registered_model("old")
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    client.create_model_version("old", client.get_model_version("mine", "1").source, tags={"sensai.manifest": digest})
    said = "^model_uri='models:/old/1': a bundle of format version 2; this is for version 3"
    with pytest.raises(InputError, match=said), open_model(client, "models:/old/1"):
        pass


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "must be models:/<name>@<alias>, "),
        (
            ".",
            "is no ensemble that sensAI registered: there is neither artifacts/ensemble/manifest.json nor manifest.json",
        ),
        ("a.txt", "is a file; must be models:/<name>@<alias>, "),
        ("nothing", "must be models:/<name>@<alias>, "),
        ("x" * 5000, "must be models:/<name>@<alias>, "),
        ("\0", "must be models:/<name>@<alias>, "),
        ("s3://bucket/model", "must be models:/<name>@<alias>, "),
        ("models:/", "Not a proper models:/ URI"),
        ("models:/a/b/c", "Not a proper models:/ URI"),
        ("models:/[/1", ""),
        ("models://[/1", "Invalid IPv6 URL"),
        ("models:/mine/99", "not found"),
        ("models:/mine@nobody", "not found"),
        ("models:/m-0123456789", "not found"),
        ("runs:/", "Not a proper runs:/ URI"),
        ("runs:/nothing/ensemble", "not found"),
    ],
)
def test_what_names_nothing_is_refused_with_what_may_be_named(
    registered: Registry, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "a.txt").write_text("")
    shown = re.escape(shortened(repr(name)))
    with registered.place.active(), pytest.raises(InputError, match=f"^model_uri={shown}: .*{said}"):
        find(registered.place.client, name)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    uri=st.one_of(
        st.text(max_size=40),
        st.builds(
            "".join,
            st.lists(st.sampled_from(["models:", "runs:", "/", "mine", "@", "1", "[", "%", "?", "#", ":", "\n"])),
        ),
        st.text(max_size=20).map("models:/".__add__),
        st.text(max_size=20).map("runs:/".__add__),
    )
)
@example("models:/mine/\ud800")
@example("models:/mine/" + "9" * 400)
@example("runs:/\0/a")
def test_whatever_is_named_is_opened_or_refused(registered: Registry, uri: str) -> None:
    with registered.place.active(), suppress(InputError):
        assert find(registered.place.client, uri).name == f"model_uri={uri!r}"
