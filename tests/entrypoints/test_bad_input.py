"""Every mistake of a user gives one clear line and status 2; a run that began is FAILED."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sensai.models.factory import NetworkSpec, build
from tests.conftest import TINY, Entry, command, tiny


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in line, line


@pytest.mark.processes
@pytest.mark.parametrize("ratio", ["-0.1", "1", "1.5", "nan", "abc", ""])
def test_ratio(entry: Entry, ratio: str) -> None:
    assert_refused(entry("prune", ratio=ratio), f"ratio='{ratio}'", "must be")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"dataset": "cifar11"}, ["dataset='cifar11'", "cifar10"]),
        ({"arch": "resnet21"}, ["arch='resnet21'", "resnet20", "torchvision:<name>", "path/to/file.py:factory"]),
        ({"arch": "shufflenet"}, ["arch='shufflenet'", "shufflenetv2"]),
        ({"rename": "linear"}, ["rename='linear'", "pairs old=new"]),
        ({"rename": "a=b,=c"}, ["rename='a=b,=c'", "pairs old=new"]),
        ({"rename": "a=b=c"}, ["rename='a=b=c'", "pairs old=new"]),
        ({"drop": "a,,b"}, ["drop='a,,b'", "patterns of keys"]),
        ({"rato": 0.1}, ["'rato'", "'ratio'"]),
        ({"nonsense_here": 0.1}, ["'nonsense_here'", "allowed are", "ratio"]),
        ({"arch_args": "[1]"}, ["arch_args='[1]'", "JSON object"]),
        ({"mean": "0.5,x"}, ["mean='0.5,x'", "one number a channel"]),
        ({"std": "0.5,0"}, ["std='0.5,0'", "above 0"]),
        ({"device": "tpu"}, ["device='tpu'", "cuda"]),
        ({"force": "maybe"}, ["force='maybe'"]),
        ({"method": "random"}, ["n_groups=''", "method=random"]),
        ({"method": "min_flops"}, ["n_groups=''", "method=min_flops"]),
        ({"method": "kmean"}, ["method='kmean'", "did you mean kmeans?"]),
        ({"method": "spectral", "n_groups": 0}, ["n_groups='0'", "greater than or equal to 1"]),
        ({"similarity": "looks"}, ["similarity='looks'", "'coupling', 'statistics' or 'confusion'"]),
        ({"method": "file"}, ["groups_file=''", "method=file"]),
        ({"target_flops": 0.1, "target_of": "all"}, ["target_of='all'", "'member' or 'ensemble'"]),
        ({"image_size": 0}, ["image_size='0'", "greater than or equal to 1"]),
        # As Python has the bytes of a Latin-1 name.
        ({"data_dir": "caf\udce9"}, [r"data_dir='caf\udce9'", "bytes that are no UTF-8"]),
        ({"ratio": 2, "seed": "x", "policy": "magic"}, ["ratio='2'", "seed='x'", "policy='magic'"]),
    ],
)
def test_parameters(launched: Entry, parameters: dict, words: list[str]) -> None:
    assert_refused(launched("prune", **parameters), *words)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("import sys; sys.exit(0)", "the function failed (it calls sys.exit(0)"),
        ("return {'train': (np.zeros((4, 8, 8), np.uint8), np.arange(4)), 'classes': None}", "not None"),
        ("return {'train': (np.zeros((4, 8, 8), np.uint8), np.zeros(4, int))}", "at least two classes"),
        ("return {'train': (np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 2, 10**10]))}", "10000000000"),
    ],
)
@pytest.mark.usefixtures("store_uri")
def test_a_data_function_that_gives_none(launched: Entry, tmp_path: Path, body: str, word: str) -> None:
    (tmp_path / "mine.py").write_text(f"import numpy as np\ndef make(data_dir):\n    {body}\n")
    assert_refused(launched("baseline", **tiny("baseline", dataset=f"{tmp_path}/mine.py:make")), word)


@pytest.mark.processes
def test_refusal_comes_before_torch_and_mlflow_are_imported(tmp_path: Path) -> None:
    arguments = command("main", ratio=2)
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments[1:]], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert result.returncode == 2
    imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines() if "|" in line}
    assert "pydantic" in imported
    assert not {"torch", "mlflow", "torchvision", "pandas"} & imported


def test_the_environment_gives_no_parameters(launched: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATIO", "2")
    monkeypatch.setenv("ratio", "2")
    # All bad values are named together, so one from the environment would stand beside the command line's.
    result = launched("prune", seed="x")
    assert_refused(result, "seed='x'")
    assert "ratio" not in result.stderr


@pytest.mark.processes
def test_help_names_every_parameter(entry: Entry) -> None:
    result = entry("prune", help="")
    assert result.returncode == 0
    assert "--ratio" in result.stdout
    assert "--base_epochs" in result.stdout


def runs_of(store_uri: str) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(store_uri)
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "test"]
    return client.search_runs([experiment])


def run_of(store_uri: str) -> mlflow.entities.Run:
    return next(run for run in runs_of(store_uri) if "mlflow.parentRunId" not in run.data.tags)


def _network(path: Path, arch: str = "vgg11_bn") -> Path:
    save_file(build(NetworkSpec(arch, 10, 3, (32, 32))).state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("torchvision:resnet51", ["arch='torchvision:resnet51'", "resnet50"]),
        ("nowhere/nets.py:make", ["arch='nowhere/nets.py:make'", "there is no file"]),
    ],
)
def test_network_that_does_not_exist(launched: Entry, store_uri: str, arch: str, words: list[str]) -> None:
    assert_refused(launched("baseline", **tiny("baseline"), arch=arch), *words)


def test_checkpoint_of_another_network(launched: Entry, store_uri: str, tmp_path: Path) -> None:
    checkpoint = _network(tmp_path / "vgg.safetensors")
    result = launched("baseline", **tiny("baseline"), checkpoint=checkpoint)
    assert_refused(result, "vgg.safetensors", "missing", "unexpected")
    run = run_of(store_uri)
    assert run.info.status == "FAILED"
    assert "vgg.safetensors" in run.data.tags["sensai.failure"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth.tar"])
def test_corrupt_checkpoint(launched: Entry, store_uri: str, tmp_path: Path, suffix: str) -> None:
    checkpoint = tmp_path / f"broken{suffix}"
    checkpoint.write_bytes(b"\x80not a checkpoint")
    assert_refused(launched("baseline", **tiny("baseline"), checkpoint=checkpoint), checkpoint.name, "cannot be read")
    assert run_of(store_uri).info.status == "FAILED"


def test_checkpoint_that_runs_code_is_not_run(launched: Entry, store_uri: str, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.write_text, (tmp_path / "executed", "yes"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    assert_refused(
        launched("baseline", **tiny("baseline"), checkpoint=tmp_path / "evil.pth"), "evil.pth", "plain weights"
    )
    assert not (tmp_path / "executed").exists()


def test_missing_checkpoint(launched: Entry, store_uri: str) -> None:
    assert_refused(
        launched("baseline", **tiny("baseline"), checkpoint="nowhere.pth"), "checkpoint='nowhere.pth'", "no such file"
    )


def test_failure_of_a_missing_upstream_stage_fails_the_asked_one(
    launched: Entry, store_uri: str, tmp_path: Path
) -> None:
    checkpoint = _network(tmp_path / "vgg.safetensors")
    assert_refused(
        launched("prune", **tiny("prune"), checkpoint=checkpoint),
        "unexpected",
    )
    assert run_of(store_uri).info.status == "FAILED"


@pytest.mark.processes
@pytest.mark.parametrize(
    ("layout", "words", "opened_by_mlflow"),
    [
        ("nothing", ["data_dir=", "no folder train/"], False),
        ("no images", ["data_dir", "no images"], False),
        ("broken", ["broken.png"], True),
        ("truncated", ["truncated.jpg"], False),
        ("sizes differ", ["image_size=''", "differ in size"], False),
    ],
)
def test_data_folder(
    entry: Entry,
    launched: Entry,
    store_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
    words: list[str],
    opened_by_mlflow: bool,
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    if layout != "nothing":
        for name in ("cat", "dog"):
            (folder / "train" / name).mkdir(parents=True)
            if layout == "no images":
                continue
            for number in range(3):
                side = 16 + number * (layout == "sizes differ")
                pixels = np.random.default_rng(number).integers(0, 255, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "train" / name / f"{number}.jpg")
        if layout == "broken":
            (folder / "train" / "cat" / "broken.png").write_text("no image")
        if layout == "truncated":
            whole = (folder / "train" / "cat" / "0.jpg").read_bytes()
            (folder / "train" / "cat" / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    if opened_by_mlflow:
        client = mlflow.MlflowClient(store_uri)
        run = client.create_run(client.get_experiment_by_name("test").experiment_id)
        monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    # A process that MLflow started keeps watching it.
    call = entry if opened_by_mlflow else launched
    assert_refused(call("baseline", dataset="imagefolder", data_dir=folder), *words)
    if opened_by_mlflow:
        assert run_of(store_uri).info.status == "FAILED"
        assert words[0] in run_of(store_uri).data.tags["sensai.failure"]


@pytest.mark.parametrize("stage", ["evaluate", "report"])
def test_no_test_split(launched: Entry, store_uri: str, stage: str) -> None:
    dataset = TINY["dataset"].replace(":tiny", ":without_test")
    parameters = tiny(stage, dataset=dataset, epochs=0, base_epochs=1)
    assert_refused(launched(stage, **parameters), "no test split", "train/ and test/")
    # It is known before anything is trained.
    assert {run.info.status for run in runs_of(store_uri)} == {"FAILED"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the runtime")
@pytest.mark.parametrize("stage", ["evaluate", "main"])
def test_a_runtime_that_is_not_here(launched: Entry, store_uri: str, stage: str) -> None:
    refused = launched(stage, **tiny(stage, runtime="cuda-graph", epochs=0, base_epochs=1))
    assert_refused(refused, "runtime='cuda-graph'", "no GPU")
    assert {run.info.status for run in runs_of(store_uri)} == {"FAILED"}


@pytest.mark.parametrize("name", ["", "a/b", "it's", 'a"b'])
def test_a_model_name_that_no_registry_can_look_for(launched: Entry, name: str) -> None:
    assert_refused(launched("register", model_name=name), f"model_name={name!r}")


def test_a_combination_that_is_none(launched: Entry) -> None:
    assert_refused(
        launched("evaluate", combine="mean"),
        "combine='mean'",
        "allowed are log_linear, logistic, raw, temperature, vector",
    )
    assert_refused(launched("evaluate", reject="1"), "reject='1'", "less than 1")


def test_download_that_cannot_be_made(
    launched: Entry, store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy that nobody listens at keeps the machine's own network out of the test.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    result = launched("baseline", dataset="cifar10", data_dir=tmp_path / "downloads", arch="vgg11_bn")
    assert_refused(result, "cifar-10-python.tar.gz", "downloads")


def test_tracking_server_that_refuses(launched: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    assert_refused(launched("baseline"), "MLFLOW_TRACKING_URI", str(port))


@pytest.mark.processes
@pytest.mark.long
def test_tracking_server_that_never_answers(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert_refused(entry("baseline", timeout=60), "MLFLOW_TRACKING_URI", "no tracking server answers")
        # The limit that users are promised, imports included; the test's own limit leaves room for a loaded machine.
        assert time.monotonic() - start < 45


def test_store_in_a_folder_that_does_not_exist(launched: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all/mlflow.db")
    assert_refused(launched("baseline"), "/nowhere/at/all")


def test_device_that_is_not_there(launched: Entry, store_uri: str) -> None:
    assert_refused(launched("baseline", **tiny("baseline"), device="cuda:99"), "device='cuda:99'")


@pytest.mark.parametrize(("given", "then"), [(None, "true"), ("false", "false")])
def test_telemetry_of_mlflow_is_off_unless_the_user_has_set_it(
    given: str | None, then: str, launched: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given:
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", given)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "bogus://somewhere")
    assert_refused(launched("baseline"), "bogus://somewhere")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == then
