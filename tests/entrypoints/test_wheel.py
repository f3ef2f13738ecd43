"""The wheel: what it holds, and that it works in an environment and a folder without the checkout."""

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import mlflow
import pytest

import sensai
from tests.conftest import ROOT

# Left out of the copy that the wheel is built from: what git ignores, and hidden folders.
_NOT_COPIED = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "mlruns", "mlflow.db*")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built in a copy: a build leaves files beside what it builds from."""
    checkout = tmp_path_factory.mktemp("copy") / "checkout"
    shutil.copytree(ROOT, checkout, ignore=_NOT_COPIED)
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", str(folder), str(checkout)),
        ],
        check=True,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.processes
def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"sensai_class_parallel-{sensai.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        entry_points = archive.read(f"sensai_class_parallel-{sensai.__version__}.dist-info/entry_points.txt").decode()
    library = [path for path in (ROOT / "sensai").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sorted(names) == sorted(path.relative_to(ROOT).as_posix() for path in library)
    assert "sensai/py.typed" in names
    assert entry_points.split("\n")[:2] == ["[console_scripts]", "sensai = sensai.__main__:main"]


@pytest.mark.long
def test_the_pipeline_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    own = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True
    ).stdout.strip()
    # The packages that sensAI needs; .pth files there, such as that of the checkout, are not followed.
    Path(own, "packages.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"),
            *("--no-deps", "--no-index", "--ignore-installed", str(wheel)),
        ],
        check=True,
    )
    folder = tmp_path / "empty"
    folder.mkdir()
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*arguments: str) -> str:
        command = [str(environment / "bin" / "sensai"), *arguments]
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = subprocess.run(
        [python, "-c", "import sensai; print(sensai.__file__)"],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert place.stdout.strip() == f"{own}/sensai/__init__.py"
    assert call("--version") == f"sensai {sensai.__version__}\n"
    # Two jobs: processes that are started find the library too.
    training = ["--base_epochs", "2", "--epochs", "1", "--jobs", "2", "--threads", "1"]
    small = [*training, "--runtime", "torch", "--method", "random", "--n_groups", "2"]
    assert "main run: " in call("main", *small, "--yardsticks", "control")
    assert "report run: " in call("report", *small)
    assert "contention run: " in call(
        "contention",
        *small[:2],
        *("--trainings", "1", "--tasks", "training", "--workers", "0", "--contention_images", "64"),
    )
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    assert int(client.get_model_version_by_alias("sensai-ensemble", "candidate").version) == 1
    assert list(folder.glob("mlruns/**/report.html"))
