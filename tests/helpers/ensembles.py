"""Small ensembles for the registry, their answers, and images that they do not take."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble, Member
from sensai.ensemble.calibration import RAW, Calibration
from sensai.models.factory import NetworkSpec, build
from sensai.registry.image_format import ImageFormat
from sensai.registry.versions import register_ensemble
from tests.helpers.networks import randomise
from tests.helpers.pipeline import Place

NAMES = ("zero", "one", "two", "three")
SHAPE = (9, 8, 1)  # height, width, channels


def ensemble_of(groups: list[tuple[int, ...]]) -> Ensemble:
    """Return members with random weights that all differ."""
    height, width, channels = SHAPE
    members = []
    for number, classes in enumerate(groups):
        outputs = len(classes) + (1 < len(classes) < len(NAMES))
        torch.manual_seed(number)
        network = build(NetworkSpec("small_cnn", outputs, channels, (height, width)))
        members.append(Member(classes, randomise(network, number)))
    spec = NetworkSpec("small_cnn", len(NAMES), channels, (height, width))
    return Ensemble(members, NAMES, spec, Normalization((0.3,), (0.2,))).eval()


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def probabilities(ensemble: Ensemble, batch: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return ensemble(ensemble.normalization(torch.from_numpy(batch.transpose(0, 3, 1, 2)))).numpy()


def outputs_of(ensemble: Ensemble, batch: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        logits = ensemble.member_logits(ensemble.normalization(torch.from_numpy(batch.transpose(0, 3, 1, 2))))
    return [each.numpy() for each in logits]


def register(
    place: Place,
    name: str,
    ensemble: Ensemble,
    calibration: Calibration = RAW,
    image_format: ImageFormat = ImageFormat(),  # noqa: B008  (it is frozen)
) -> str:
    """Make the ensemble the champion of a store, and return its URI."""
    with place.active():
        run_id = place.client.create_run(place.experiment).info.run_id
        version = register_ensemble(place.client, run_id, ensemble, calibration, image_format, images(1), name, {})
        place.client.set_registered_model_alias(name, "champion", str(version))
    return f"models:/{name}@champion"


def swap_artifact(folder: Path) -> None:
    """Replace the only ensemble below a folder by a consistent other one, as an attacker with write access could."""
    (manifest,) = folder.rglob("manifest.json")
    (model,) = folder.rglob("MLmodel")
    before = hashlib.sha256(manifest.read_bytes()).hexdigest()
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"class_names": content["class_names"][::-1]}))
    after = hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert before in model.read_text()
    model.write_text(model.read_text().replace(before, after))


def put_into_script(folder: Path, trace: Path) -> None:
    """Make the script of the only model below a folder leave a trace when it runs."""
    (script,) = folder.rglob("pyfunc_model.py")
    script.write_text(f"open({str(trace)!r}, 'w').close()\n{script.read_text()}")
