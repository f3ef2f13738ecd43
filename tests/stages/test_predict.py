"""predict: the outputs of the registered ensemble, image by image, and their logs."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.pyfunc import PythonModel
from PIL import ExifTags, Image

from sensai.config import PredictConfig
from sensai.ensemble.calibration import Calibration
from sensai.errors import InputError
from sensai.pipeline.session import dataset_of
from sensai.registry.image_format import ImageFormat
from sensai.registry.versions import register_ensemble
from sensai.stages import predict
from tests.conftest import Entry, command
from tests.helpers.ensembles import ensemble_of, images, probabilities, put_into_script, register, swap_artifact
from tests.helpers.pipeline import FinishedMain, Place

URI = "models:/sensai-ensemble/1"


@pytest.fixture
def place(finished: FinishedMain, tmp_path: Path) -> Place:
    """Return the finished place's registry in a writable store."""
    return finished.place.copy(tmp_path)


@pytest.fixture(scope="module")
def tested(finished_main: FinishedMain) -> np.ndarray:
    test = dataset_of(finished_main.config).test
    return test.images[test.rows[:5]].transpose(0, 2, 3, 1)


def answers(printed: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_every_frame_is_answered_as_by_the_registered_model(
    place: Place, tested: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with place.active():
        expected = mlflow.pyfunc.load_model(URI).predict(tested)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(tested.tobytes())))
        capsys.readouterr()
        predict.run(PredictConfig(model_uri=URI, frames="raw"))
    (run,) = place.of("predict")
    given = answers(capsys.readouterr().out)
    assert [answer["image"] for answer in given] == ["0", "1", "2", "3", "4"]
    assert [answer["label"] for answer in given] == list(expected[["top", "middle", "bottom"]].idxmax(axis=1))
    assert [answer["probability"] for answer in given] == pytest.approx(
        list(expected[["top", "middle", "bottom"]].max(axis=1)), abs=1e-5
    )
    assert run.info.status == "FINISHED"
    assert run.data.metrics["frames"] == 5
    times = [answer["ms"] for answer in given]
    assert run.data.metrics["latency_p50_ms"] == pytest.approx(np.median(times), abs=1e-3)
    assert set(run.data.metrics) == {"frames", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms"}


@pytest.mark.processes
def test_an_answer_comes_while_the_stream_is_open_and_a_wrong_frame_ends_it_with_a_line(
    place: Place, tested: np.ndarray, tmp_path: Path
) -> None:
    with place.active():
        process = subprocess.Popen(
            command("predict", model_uri=URI),
            cwd=tmp_path,
            env=dict(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"pixels": tested[0].tolist(), "id": "first"}) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["image"] == "first"
        out, errors = process.communicate("nothing\n", timeout=120)
    assert process.returncode == 2
    assert out == ""
    assert errors.splitlines()[-1].startswith("error: predict: line 2: must be like ")
    assert "Traceback" not in errors
    (run,) = place.of("predict")
    assert run.info.status == "FAILED"
    assert run.data.metrics["frames"] == 1


def test_a_frame_of_none_of_the_classes_has_no_label(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = images(3)
    ensemble = ensemble_of([(3, 0), (2,), (1,)])
    largest = probabilities(ensemble, frames).max(1)
    # The least sure of the three is rejected, and no other.
    calibration = Calibration("raw", threshold=float(np.sort(largest)[:2].mean()))
    with place.active():
        run_id = place.client.create_run(place.experiment).info.run_id
        register_ensemble(place.client, run_id, ensemble, calibration, ImageFormat(), frames[:1], "rejecting", {})
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(frames.tobytes())))
        capsys.readouterr()
        predict.run(PredictConfig(model_uri="models:/rejecting/1", frames="raw"))
    given = answers(capsys.readouterr().out)
    assert [answer["label"] is None for answer in given] == list(largest == largest.min())
    assert [answer["probability"] for answer in given] == pytest.approx(list(largest), abs=1e-5)


def test_a_swapped_artifact_is_refused_and_its_script_is_not_run(
    empty_database: Path, tmp_path: Path, launched: Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place.make(tmp_path, empty_database)
    uri = register(place, "mine", ensemble_of([(0, 1, 2, 3)]))
    put_into_script(tmp_path, tmp_path / "trace")
    with place.active():
        (tmp_path / "frames").write_bytes(images(1).tobytes())
        with (tmp_path / "frames").open() as frames, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", frames)
            capsys.readouterr()
            predict.run(PredictConfig(model_uri=uri, frames="raw"))
        assert len(answers(capsys.readouterr().out)) == 1
        assert not (tmp_path / "trace").exists()
        swap_artifact(tmp_path)
        refused = launched("predict", model_uri=uri, images=str(tmp_path))
    assert refused.returncode == 2
    said = f"error: predict: model_uri={uri!r}: manifest.json is not the file that was registered: SHA-256 "
    assert refused.stderr.splitlines()[-1].startswith(said)
    assert refused.stdout == ""
    assert sorted(run.info.status for run in place.of("predict")) == ["FAILED", "FINISHED"]


def test_whoever_reads_the_answers_may_leave(place: Place, tested: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(tested.tobytes())))
    with place.active(), os.fdopen(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        predict.run(PredictConfig(model_uri=URI, frames="raw"))
    (run,) = place.of("predict")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["frames"] == 1


def test_a_file_that_cannot_be_answered_is_its_own_error(
    place: Place, tested: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, name in enumerate(["a.png", os.fsdecode(b"caf\xe9.png"), "turned.png", "z.png"]):
        exif = Image.Exif()
        pixels = tested[number, :, :, 0]
        if name == "turned.png":
            exif[ExifTags.Base.Orientation] = 6
            # A quarter turn clockwise brings it upright.
            pixels = np.rot90(pixels)
        Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
        (tmp_path / "x.png").rename(folder / name)
    Image.new("RGB", (8, 8), (200, 0, 0)).save(folder / "m.png")
    os.mkfifo(folder / "n.png")
    (folder / "._a.png").write_bytes(b"no image")
    with place.active():
        expected = mlflow.pyfunc.load_model(URI).predict(tested[:4])
        capsys.readouterr()
        with pytest.raises(InputError, match=r"^images: '.*m\.png' is coloured, and .*; and 1 more of 6 images"):
            predict.run(PredictConfig(model_uri=URI, images=str(folder)))
    given = answers(capsys.readouterr().out)
    names = [Path(str(answer["image"])).name for answer in given]
    assert names == ["a.png", os.fsdecode(b"caf\xe9.png"), "m.png", "n.png", "turned.png", "z.png"]
    assert [answer["label"] for answer in given if "error" not in answer] == list(
        expected[["top", "middle", "bottom"]].idxmax(axis=1)
    )
    errors = [answer for answer in given if "error" in answer]
    assert [set(answer) for answer in errors] == [{"image", "error"}] * 2
    assert "is coloured, and the network takes 1 channel" in str(errors[0]["error"])
    assert "is a FIFO, not an image file" in str(errors[1]["error"])
    (run,) = place.of("predict")
    assert run.info.status == "FAILED"
    assert run.data.metrics["frames"] == 4


class Foreign(PythonModel):
    """A registered model that has nothing to do with sensAI."""

    def predict(self, context: object, model_input: object, params: object = None) -> object:
        """What came."""
        return model_input


def test_a_model_of_others_is_refused(empty_database: Path, tmp_path: Path) -> None:
    script = tmp_path / "foreign.py"
    script.write_text(
        "from mlflow.models import set_model\nfrom tests.stages.test_predict import Foreign\nset_model(Foreign())\n"
    )
    with Place.make(tmp_path, empty_database).active():
        with mlflow.start_run():
            uri = mlflow.pyfunc.log_model(name="foreign", python_model=str(script), pip_requirements=[]).model_uri
        with pytest.raises(InputError, match=f"^model_uri='{uri}': is no ensemble that sensAI registered"):
            predict.run(PredictConfig(model_uri=uri))


def test_without_standard_input_there_are_no_frames(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    # As Python has it where a shell closes it: `<&-`.
    monkeypatch.setattr(sys, "stdin", None)
    with place.active(), pytest.raises(InputError, match=r"^images='-': there is no standard input"):
        predict.run(PredictConfig(model_uri=URI))


@pytest.mark.parametrize(
    "uri", ["models:/nothing/1", "models:/sensai-ensemble@nobody", "models:/sensai-ensemble/9", "x", "."]
)
def test_a_model_that_is_not_there_is_named(place: Place, uri: str) -> None:
    with place.active(), pytest.raises(InputError, match=f"^model_uri='{uri}': "):
        predict.run(PredictConfig(model_uri=uri))
