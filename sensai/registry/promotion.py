"""Select the version of an ensemble that serves: compare on validation data, move the alias `champion`, or move it back.

One write moves an alias, so `champion` always names an existing version, even if the process is killed. A tag of the
registered model lists the champions in order. Entries of the tag behind the current champion have no effect: the alias was
never moved to them, or was moved back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from sensai.analysis.differences import IncomparableError, base_difference
from sensai.errors import InputError
from sensai.evaluation.accuracy_difference import Difference
from sensai.evaluation.roles import BASE_MODEL
from sensai.evaluation.verdict import ALIKE
from sensai.registry.aliases import CANDIDATE, CHAMPION, aliases_of, find, missing_entries
from sensai.registry.registered import check_files
from sensai.tracking import tags
from sensai.tracking.artifact_names import VAL_ANSWERS

Cost = Literal["flops", "latency"]


@dataclass(frozen=True)
class Costs:
    """Hold what an answer costs.

    Attributes:
        flops: of the largest network.
        latency: milliseconds of all networks together, median.
        interval: 95 % interval of that median; None in evaluations of earlier versions.
    """

    flops: float
    latency: float
    interval: tuple[float, float] | None = None

    def is_below(self, other: "Costs", cost: Cost) -> bool:
        """Return True if this is cheaper; latencies within a tenth of each other count as equal."""
        if cost == "flops":
            return self.flops < other.flops
        return self.latency * ALIKE <= other.latency

    def text(self, cost: Cost) -> str:
        """Return a cost with its unit and its interval."""
        if cost == "flops":
            return f"{self.flops:,.0f} FLOPs"
        interval = f" ({self.interval[0]:.3g} to {self.interval[1]:.3g})" if self.interval else ""
        return f"{self.latency:.3g} ms{interval}"


@dataclass(frozen=True)
class Standing:
    """The measurements by which a version is judged.

    Attributes:
        version: its number.
        val_accuracy: of the ensemble on the validation split, a fraction.
        base_val_accuracy: likewise of the base model.
        costs: of the ensemble; its largest network is the largest member.
        base_costs: of the base model, measured beside the ensemble.
        val_digest: of the images behind the accuracies.
        host: the machine and the settings of the timing.
        gain: the accuracy less that of the base model; None in evaluations of earlier versions.
        warning: of a base model that has seen validation images; empty where there is none.
    """

    version: int
    val_accuracy: float
    base_val_accuracy: float
    costs: Costs
    base_costs: Costs
    val_digest: str
    host: str
    gain: Difference | None = None
    warning: str = ""

    @property
    def accuracy_drop(self) -> float:
        """Return the accuracy lost against the base model."""
        # Rounding errors must not make fractions of the same images differ.
        return round(self.base_val_accuracy - self.val_accuracy, 12)

    @property
    def is_more_accurate(self) -> bool:
        """Return True if the ensemble is shown to be more accurate than the base model; without an interval, if it is."""
        return self.accuracy_drop < 0 if self.gain is None else self.gain.is_gain

    @property
    def accuracy_text(self) -> str:
        """Return both accuracies, and their difference with its interval."""
        both = f"{self.val_accuracy:.4f} against {self.base_val_accuracy:.4f} on validation data"
        if self.gain is None:
            return both
        return f"{both} ({self.gain.difference:+.4f}, interval {self.gain.low:+.4f} to {self.gain.high:+.4f})"


def nominate(client: MlflowClient, model_name: str, version: int) -> None:
    """Make a version the candidate, which is promoted if no other is named."""
    client.set_registered_model_alias(model_name, CANDIDATE, str(version))


def nominate_newest(client: MlflowClient, model_name: str) -> None:
    """Make the newest version the candidate; of several processes at once, the last one to move the alias checks again."""
    while (newest := _newest(client, model_name)) != int(aliases_of(client, model_name).get(CANDIDATE, 0)):
        nominate(client, model_name, newest)


def _newest(client: MlflowClient, model_name: str) -> int:
    (version,) = client.search_model_versions(f"name = '{model_name}'", max_results=1, order_by=["version_number DESC"])
    return int(version.version)


def champion_of(client: MlflowClient, model_name: str) -> ModelVersion | None:
    """Return the version that serves, or None.

    Raises:
        InputError: there is no such model.
    """
    number = aliases_of(client, model_name).get(CHAMPION)
    return None if number is None else client.get_model_version(model_name, number)


def standing(client: MlflowClient, version: ModelVersion) -> Standing:
    """Return the measurements in the evaluation of a version.

    Raises:
        InputError: its run is gone, or there were no validation data.
    """
    try:
        with missing_entries(f"version={version.version} of {version.name!r}"):
            run = client.get_run(version.tags[f"{tags.UPSTREAM}evaluate"])
        metrics, run_tags = run.data.metrics, run.data.tags
        return Standing(
            version=int(version.version),
            val_accuracy=metrics["val_accuracy"],
            base_val_accuracy=metrics["base_val_accuracy"],
            costs=_costs(metrics, "flops_max", "ensemble"),
            base_costs=_costs(metrics, "flops_base", "base"),
            val_digest=run_tags[tags.VAL_DIGEST],
            host=run_tags[tags.HOST],
            gain=_gain(client, run.info.run_id),
            warning=run_tags.get(tags.LEAKAGE, ""),
        )
    except KeyError as error:
        raise InputError(
            f"version={version.version} of {version.name!r}: cannot be judged, since its evaluation does not say ({error})"
        ) from error


def _costs(metrics: Mapping[str, float], flops: str, network: str) -> Costs:
    low, high = (metrics.get(f"latency_{network}_{bound}_ms") for bound in ("low", "high"))
    interval = None if low is None or high is None else (low, high)
    return Costs(metrics[flops], metrics[f"latency_{network}_ms"], interval)


def _gain(client: MlflowClient, evaluate_run: str) -> Difference | None:
    """Return the validation accuracy of the ensemble less that of the base model, None if no answers were logged."""
    try:
        return base_difference(evaluate_run, tracking_uri=client.tracking_uri, answers=VAL_ANSWERS)
    except IncomparableError:
        return None


def compared(candidate: Standing, champion: Standing | None) -> pd.DataFrame:
    """Return a row for candidate, its base model and champion.

    Columns role, version (missing for the base model), val_accuracy, accuracy_drop, flops, latency (ms), latency_low,
    latency_high.
    """
    rows = [
        (CANDIDATE, candidate.version, candidate.val_accuracy, candidate.accuracy_drop, candidate.costs),
        (BASE_MODEL, None, candidate.base_val_accuracy, 0.0, candidate.base_costs),
    ]
    if champion:
        rows.append((CHAMPION, champion.version, champion.val_accuracy, champion.accuracy_drop, champion.costs))
    return pd.DataFrame(
        [
            (role, version, accuracy, drop, costs.flops, costs.latency, *(costs.interval or (None, None)))
            for role, version, accuracy, drop, costs in rows
        ],
        columns=[
            *("role", "version", "val_accuracy", "accuracy_drop", "flops", "latency", "latency_low", "latency_high")
        ],
    ).astype({"version": "Int64"})


def check(
    candidate: Standing, champion: Standing | None, max_accuracy_drop: float, cost: Cost, *, allow_no_gain: bool
) -> None:
    """Raise an error for a candidate that loses too much, gains nothing, or costs more than the champion.

    Args:
        candidate: the version to promote.
        champion: the one that serves, if there is one.
        max_accuracy_drop: largest loss of accuracy against the base model.
        cost: the one that is compared.
        allow_no_gain: let it be neither faster nor more accurate than the base model.

    Raises:
        InputError: the candidate is refused, with the reason, or the two cannot be compared.
    """
    if candidate.accuracy_drop > max_accuracy_drop:
        raise InputError(
            f"max_accuracy_drop={max_accuracy_drop:g}: version {candidate.version} loses {candidate.accuracy_drop:.4f} "
            f"({candidate.val_accuracy:.4f} against the base model's {candidate.base_val_accuracy:.4f} on validation data)"
        )
    gains = candidate.is_more_accurate or candidate.costs.is_below(candidate.base_costs, cost)
    if not gains and not allow_no_gain:
        raise InputError(
            f"cost={cost!r}: version {candidate.version} is neither faster nor more accurate than the base model: "
            f"{candidate.costs.text(cost)} against {candidate.base_costs.text(cost)}, and {candidate.accuracy_text}; "
            "allow_no_gain=true promotes it all the same"
        )
    if champion is not None:
        _check_against(champion, candidate, cost)


def _check_against(champion: Standing, candidate: Standing, cost: Cost) -> None:
    """Raise an error for a candidate that costs more than the champion, or cannot be compared with it."""
    if candidate.val_digest != champion.val_digest:
        raise InputError(
            f"version={candidate.version}: was judged on other validation data than the champion, version {champion.version}"
        )
    if cost == "latency" and candidate.host != champion.host:
        raise InputError(
            f"cost='latency': versions {candidate.version} and {champion.version} were timed on different machines, or "
            "otherwise; evaluate and register one of them here, or use cost=flops"
        )
    if champion.costs.is_below(candidate.costs, cost):
        raise InputError(
            f"cost={cost!r}: version {candidate.version} has {candidate.costs.text(cost)}, more than the champion's "
            f"{champion.costs.text(cost)} (version {champion.version})"
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
