"""Select the version of an ensemble that serves: compare on validation data, move the alias `champion`, or move it back.

One write moves an alias, so `champion` always names an existing version, even if the process is killed. A tag of the
registered model lists the champions in order. Entries of the tag behind the current champion have no effect: the alias was
never moved to them, or was moved back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.tracking import MlflowClient

from sensai.errors import InputError
from sensai.registry.registered import check_files
from sensai.tracking import tags

CANDIDATE = "candidate"
CHAMPION = "champion"

_NOT_THERE = {ErrorCode.Name(each) for each in (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE)}

Cost = Literal["flops", "latency"]


@dataclass(frozen=True)
class Standing:
    """The measurements by which a version is judged.

    Attributes:
        version: its number.
        val_accuracy: of the ensemble on the validation split, a fraction.
        base_val_accuracy: likewise of the base model.
        flops: of the largest member.
        latency: milliseconds of the whole ensemble.
        val_digest: of the images behind the accuracies.
        host: the machine and the settings of the timing.
        warning: of a base model that has seen validation images; empty where there is none.
    """

    version: int
    val_accuracy: float
    base_val_accuracy: float
    flops: float
    latency: float
    val_digest: str
    host: str
    warning: str = ""

    @property
    def accuracy_drop(self) -> float:
        """Return the accuracy lost against the base model."""
        # Rounding errors must not make fractions of the same images differ.
        return round(self.base_val_accuracy - self.val_accuracy, 12)


def find(client: MlflowClient, model_name: str, version: int | None) -> ModelVersion:
    """Return a version by its number, or the candidate if none is given.

    Raises:
        InputError: there is none.
    """
    number = _aliases(client, model_name).get(CANDIDATE) if version is None else version
    if number is None:
        raise InputError(f"model_name={model_name!r}: no version has the alias {CANDIDATE}")
    with _named(f"model_name={model_name!r}: version={number}"):
        return client.get_model_version(model_name, str(number))


def nominate(client: MlflowClient, model_name: str, version: int) -> None:
    """Make a version the candidate, which is promoted if no other is named."""
    client.set_registered_model_alias(model_name, CANDIDATE, str(version))


def nominate_newest(client: MlflowClient, model_name: str) -> None:
    """Make the newest version the candidate; of several processes at once, the last one to move the alias checks again."""
    while (newest := _newest(client, model_name)) != int(_aliases(client, model_name).get(CANDIDATE, 0)):
        nominate(client, model_name, newest)


def _newest(client: MlflowClient, model_name: str) -> int:
    (version,) = client.search_model_versions(f"name = '{model_name}'", max_results=1, order_by=["version_number DESC"])
    return int(version.version)


def champion_of(client: MlflowClient, model_name: str) -> ModelVersion | None:
    """Return the version that serves, or None.

    Raises:
        InputError: there is no such model.
    """
    number = _aliases(client, model_name).get(CHAMPION)
    return None if number is None else client.get_model_version(model_name, number)


def _aliases(client: MlflowClient, model_name: str) -> dict[str, str]:
    """Return alias -> number of the version, read from the model, since a missing alias is not an error."""
    with _named(f"model_name={model_name!r}"):
        return dict(client.get_registered_model(model_name).aliases)


@contextmanager
def _named(parameter: str) -> Iterator[None]:
    """Raise an InputError for entries that the registry does not have or refuses; other failures of the registry pass."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in _NOT_THERE:
            raise
        raise InputError(f"{parameter}: {str(error).splitlines()[0]}") from error


def standing(client: MlflowClient, version: ModelVersion) -> Standing:
    """Return the measurements in the evaluation of a version.

    Raises:
        InputError: its run is gone, or there were no validation data.
    """
    try:
        with _named(f"version={version.version} of {version.name!r}"):
            run = client.get_run(version.tags[f"{tags.UPSTREAM}evaluate"])
        metrics, run_tags = run.data.metrics, run.data.tags
        return Standing(
            version=int(version.version),
            val_accuracy=metrics["val_accuracy"],
            base_val_accuracy=metrics["base_val_accuracy"],
            flops=metrics["flops_max"],
            latency=metrics["latency_ensemble_ms"],
            val_digest=run_tags[tags.VAL_DIGEST],
            host=run_tags[tags.HOST],
            warning=run_tags.get(tags.LEAKAGE, ""),
        )
    except KeyError as error:
        raise InputError(
            f"version={version.version} of {version.name!r}: cannot be judged, since its evaluation does not say ({error})"
        ) from error


def compared(candidate: Standing, champion: Standing | None) -> pd.DataFrame:
    """Return a row for each, with columns role, version, val_accuracy, base_val_accuracy, accuracy_drop, flops, latency."""
    standings = {CANDIDATE: candidate} | ({CHAMPION: champion} if champion else {})
    rows = [{"role": role, **asdict(each), "accuracy_drop": each.accuracy_drop} for role, each in standings.items()]
    return pd.DataFrame(rows).drop(columns=["val_digest", "host", "warning"])


def check(candidate: Standing, champion: Standing | None, max_accuracy_drop: float, cost: Cost) -> None:
    """Raise an error for a candidate that loses too much, or costs more than the champion.

    Raises:
        InputError: the candidate is refused, with the reason, or the two cannot be compared.
    """
    if candidate.accuracy_drop > max_accuracy_drop:
        raise InputError(
            f"max_accuracy_drop={max_accuracy_drop:g}: version {candidate.version} loses {candidate.accuracy_drop:.4f} "
            f"({candidate.val_accuracy:.4f} against the base model's {candidate.base_val_accuracy:.4f} on validation data)"
        )
    if champion is None:
        return
    if candidate.val_digest != champion.val_digest:
        raise InputError(
            f"version={candidate.version}: was judged on other validation data than the champion, version {champion.version}"
        )
    if cost == "latency" and candidate.host != champion.host:
        raise InputError(
            f"cost='latency': versions {candidate.version} and {champion.version} were timed on different machines, or "
            "otherwise; evaluate and register one of them here, or use cost=flops"
        )
    own, best = getattr(candidate, cost), getattr(champion, cost)
    if own > best:
        raise InputError(
            f"cost={cost!r}: version {candidate.version} has {own:.6g}, more than the champion's {best:.6g} "
            f"(version {champion.version})"
        )


def promote(client: MlflowClient, version: ModelVersion, champion: ModelVersion | None) -> None:
    """Make a version the champion and record the one that it replaced.

    Args:
        client: of the registry.
        version: the new champion.
        champion: the version that it was compared with.

    Raises:
        InputError: meanwhile another version became champion, with which it was not compared.
    """
    now = champion_of(client, version.name)
    if (now and now.version) != (champion and champion.version):
        raise InputError(
            f"version={version.version}: the champion of {version.name!r} is no longer the one that it was compared with; "
            "promote it again"
        )
    before = _served(client, champion) if champion else []
    replaced = str(champion.version) if champion else ""
    client.set_model_version_tag(version.name, version.version, tags.REPLACED, replaced)
    client.set_registered_model_tag(version.name, tags.CHAMPIONS, ",".join([*before, str(version.version)]))
    client.set_registered_model_alias(version.name, CHAMPION, version.version)


def roll_back(client: MlflowClient, model_name: str) -> ModelVersion:
    """Make the version that served before the champion the champion again, and return it.

    Raises:
        InputError: there is no champion, it replaced none, or the replaced version is gone or has other files.
    """
    champion = champion_of(client, model_name)
    if champion is None:
        raise InputError(f"model_name={model_name!r}: no version has the alias {CHAMPION}")
    *before, _ = _served(client, champion)
    if not before:
        raise InputError(f"rollback=True: version {champion.version} of {model_name!r} replaced no other")
    version = find(client, model_name, int(before[-1]))
    check_files(version)
    # The alias moves first: if this process is then killed, the tag has one entry too many, which has no effect.
    client.set_registered_model_alias(model_name, CHAMPION, version.version)
    client.set_registered_model_tag(model_name, tags.CHAMPIONS, ",".join(before))
    return version


def _served(client: MlflowClient, champion: ModelVersion) -> list[str]:
    """Return the numbers of all champions in order, up to the current one; only its own if it was made champion by hand."""
    noted = client.get_registered_model(champion.name).tags.get(tags.CHAMPIONS, "").split(",")
    number = str(champion.version)
    while noted and noted[-1] != number:
        noted.pop()
    return noted or [number]
