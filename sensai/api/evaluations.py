"""evaluate: Compare an ensemble with its base model, and with other networks, on test images. N images, K classes."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from sensai import evaluation
from sensai.analysis.report.summary import summary_numbers, summary_table
from sensai.analysis.resampling import paired_difference
from sensai.api.display import as_html
from sensai.api.live_ensemble import Ensemble
from sensai.api.parameters import checked
from sensai.api.user_images import BATCH, UserImages, first_batch, raw_images, split_of
from sensai.config import EvaluateConfig
from sensai.data.batches import batches
from sensai.ensemble.calibration import Calibration
from sensai.errors import InputError
from sensai.evaluation.accuracy_difference import Difference
from sensai.evaluation.combinations import Answered, fit_combinations, leakage_warning
from sensai.evaluation.ensemble_metrics import accuracy_metrics, members_table, size_metrics
from sensai.evaluation.roles import BASE_MODEL, CONTROL, ENSEMBLE, REPLICAS, TITLES
from sensai.evaluation.verdict import base_model, evaluated, verdict
from sensai.models.live_networks import plain_copy
from sensai.pipeline.devices import device_of
from sensai.runtimes import Prepared, compare_on_device, prepare, prepare_base

_NEXT = {
    BASE_MODEL: "sensai.prune with another target_flops or other groups, or keep the base model",
    CONTROL: "sensai.log(control)",
    REPLICAS: "sensai.log(replicas)",
}
_LOG = "sensai.log(ensemble, result)"
_MEASURE = "sensai.evaluate with control= and replicas=, see sensai.group"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An ensemble beside its base model and other networks, on the same test images.

    Attributes:
        role: what was evaluated: `ensemble`, or `control` or `replicas` by itself.
        metrics: under the names of the entry point `evaluate`.
        yardsticks: name of another network -> its metrics.
        differences: accuracy of the ensemble less that of the base model and of each other network, as fractions; columns
            difference, low and high (a paired 95 % interval over images).
        members: a row a member.
        answers: a row an image in the order of the test images: label, ensemble, base; class indices.
        confusion: test images by true class (row) and answer (column).
        verdict: which choice is best, by how much and how surely; empty without latencies.
        warning: of a base model that has seen validation images; else empty.
        calibration: that the ensemble answered with.
        val_answers: likewise of the validation images, each by a fit without it; None without these.
        val_digest: identifies the validation images; else empty.
        example: the first test image, uint8 (1, H, W, C).
    """

    role: str
    metrics: Mapping[str, float]
    yardsticks: Mapping[str, Mapping[str, float]]
    differences: pd.DataFrame
    members: pd.DataFrame
    answers: pd.DataFrame
    confusion: pd.DataFrame
    verdict: str
    warning: str
    calibration: Calibration = field(repr=False)
    val_answers: pd.DataFrame | None
    val_digest: str
    example: np.ndarray = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """Return the networks side by side: accuracy, top5_accuracy, params, flops and latency_ms (of one image).

        Rows: base model, largest member, ensemble, and the other networks. The accuracy of a single member is not
        comparable and stays NaN.
        """
        return self._titled(summary_numbers(self.metrics, self.yardsticks))

    def _titled(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.rename(index={TITLES[ENSEMBLE]: TITLES[self.role]})

    def __repr__(self) -> str:
        return "\n".join(filter(None, [self._titled(self._texts()).to_string(), self.verdict, self.warning]))

    def _texts(self) -> pd.DataFrame:
        return summary_table(self.metrics, self.yardsticks)

    def _repr_html_(self) -> str:
        return as_html("\n".join(filter(None, [self.verdict, self.warning])), self._titled(self._texts()), index=True)


@dataclass(frozen=True, eq=False)
class _Judged:
    """One ensemble on the test images.

    Attributes:
        metrics: see `Evaluation`.
        members: likewise.
        probabilities: float64 (N, K).
        val_answers: see `Evaluation`.
    """

    metrics: dict[str, float]
    members: pd.DataFrame
    probabilities: np.ndarray
    val_answers: pd.DataFrame | None


@dataclass(frozen=True, eq=False)
class _Validated:
    """One ensemble on the validation images.

    Attributes:
        outputs: of its members.
        answers: see `Evaluation.val_answers`.
    """

    outputs: evaluation.Outputs
    answers: pd.DataFrame

    @property
    def metrics(self) -> dict[str, float]:
        """Return the accuracies of ensemble and base model."""
        right = {name: self.answers[name] == self.answers["label"] for name in ("ensemble", "base")}
        return {"val_accuracy": right["ensemble"].mean(), "base_val_accuracy": right["base"].mean()}


def evaluate(
    ensemble: Ensemble,
    data: UserImages,
    base: nn.Module,
    *,
    control: Ensemble | None = None,
    replicas: Ensemble | None = None,
    val: UserImages = None,
    combine: str | None = None,
    latency: bool = True,
    runtime: str = "auto",
    seed: int = 0,
    device: str = "auto",
) -> Evaluation:
    """Return accuracies, sizes and latencies of an ensemble beside its base model, with a verdict.

    All networks answer in one pass over the images. An ensemble is worth its cost only if one small network of its largest
    member's FLOPs (a control), or several averaged (replicas), do not do better: `group` with `n_groups=1`, or with
    `method="replicas"`, and `prune` with `target_flops=ensemble.flops_share` make them.

    Args:
        ensemble: to be judged.
        data: test images, in a form that `score` takes.
        base: the base model.
        control: one K-way network of the largest member's FLOPs, cut and trained likewise.
        replicas: several such networks.
        val: validation images: the combination of members' outputs, with which an ensemble answers from then on, and decision
            thresholds are fitted on them. None: the combination is the ensemble's own.
        combine: name of the combination to fit; None: the likeliest on held-out validation images.
        latency: time base model and ensemble.
        runtime: that is timed; `auto`: the fastest here.
        seed: of the resamples behind the intervals.
        device: auto, cpu, cuda or cuda:<n>.

    Raises:
        InputError: a parameter is not allowed, or the networks do not fit the images or each other.
    """
    config = checked(EvaluateConfig, {"combine": combine, "runtime": runtime, "seed": seed, "device": device})
    if config.combine is not None and val is None:
        raise InputError(f"val=None: combine={combine!r} is fitted on validation images")
    target = device_of(config)
    rivals = {name: each for name, each in ((CONTROL, control), (REPLICAS, replicas)) if each is not None}
    for name, each in rivals.items():
        if each.class_names != ensemble.class_names or each.spec.input_shape != ensemble.spec.input_shape:
            raise InputError(f"{name}: is of other classes or images than the ensemble")
    network = plain_copy(base).to(target)
    ensembles = [each.to(target).eval() for each in (ensemble, *rivals.values())]
    test = _answered(data, "data", ensembles, network, target)
    held_out = None if val is None else _answered(val, "val", ensembles, network, target)
    raw = first_batch(data, "data")[:1]
    example = raw_images(raw, ensemble.normalization)
    # All ensembles take the same images, so one export of the base model serves them all.
    prepared = prepare_base(network, ensemble)
    judged = []
    for number, each in enumerate(ensembles):
        own_val = None if held_out is None else _validated(each, held_out.of[number], config.combine)
        times = _times(each, prepared, example, target, runtime) if latency else None
        judged.append(_judge(each, network, test.of[number], own_val, times))
    main, labels = judged[0], test.of[0].outputs.labels
    answers = pd.DataFrame(
        {"label": labels, "ensemble": main.probabilities.argmax(1), "base": test.of[0].base.argmax(1)}
    )
    right = {BASE_MODEL: test.of[0].base_right}
    right |= {name: each.probabilities.argmax(1) == labels for name, each in zip(rivals, judged[1:], strict=True)}
    own = (answers["ensemble"] == labels).to_numpy()
    gains = {name: paired_difference(each, own, seed=config.seed) for name, each in right.items()}
    others = {name: each.metrics for name, each in zip(rivals, judged[1:], strict=True)}
    names = list(ensemble.class_names)
    counts = evaluation.confusion(main.probabilities, labels)
    return Evaluation(
        role=ensemble.role,
        metrics=main.metrics,
        yardsticks=others,
        differences=_differences(gains, ensemble.role),
        members=main.members,
        answers=answers,
        confusion=pd.DataFrame(counts, pd.Index(names, name="class"), names),
        verdict=_verdict(ensemble.role, main.metrics, others, gains) if latency else "",
        warning="" if held_out is None else leakage_warning(held_out.of[0], test.of[0]),
        calibration=ensemble.calibration,
        val_answers=main.val_answers,
        val_digest="" if held_out is None else held_out.digest,
        example=example.transpose(0, 2, 3, 1).copy(),
    )


@dataclass(frozen=True, eq=False)
class _AllAnswered:
    """The answers of several ensembles to the same images, and the images' digest."""

    of: list[Answered]
    digest: str


def _answered(
    data: UserImages, name: str, ensembles: list[Ensemble], base: nn.Module, device: torch.device
) -> _AllAnswered:
    """Return the outputs of all members and of the base model, each batch made once."""
    first = ensembles[0]
    split = split_of(data, name, len(first.class_names), first.spec.input_shape)
    digest = hashlib.sha256()

    def digested() -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in batches(split, BATCH, first.normalization, device):
            digest.update(images.cpu().contiguous().numpy().tobytes())
            yield images, labels

    networks = [member.network for each in ensembles for member in each.members]
    outputs = evaluation.run_networks([*networks, base], tqdm(digested(), desc=name, unit="batch", leave=False))
    logits = outputs.members.pop()
    if logits.shape[1:] != (len(first.class_names),):
        raise InputError(f"base: gives {logits.shape[1]} logits, and the ensemble has {len(first.class_names)} classes")
    softmax, found = evaluation.softmax(logits), []
    for each in ensembles:
        own, outputs.members[:] = outputs.members[: len(each.members)], outputs.members[len(each.members) :]
        found.append(Answered(evaluation.Outputs(outputs.labels, own), softmax))
    return _AllAnswered(found, digest.hexdigest())


def _times(
    ensemble: Ensemble, base: Prepared, example: np.ndarray, device: torch.device, runtime: str
) -> tuple[dict[str, float], list[float]]:
    """Return the metrics of latency, and the milliseconds of each member alone."""

    def combined(outputs: list[np.ndarray]) -> np.ndarray:
        return ensemble.calibration(outputs, ensemble.groups)

    comparison = compare_on_device(base, ensemble, prepare(ensemble), combined, example, device, runtime)
    return comparison.metrics(), comparison.member_ms


def _judge(
    ensemble: Ensemble,
    base: nn.Module,
    test: Answered,
    val: _Validated | None,
    times: tuple[dict[str, float], list[float]] | None,
) -> _Judged:
    outputs = test.outputs
    probabilities = ensemble.calibration(outputs.members, ensemble.groups)
    thresholds = (
        evaluation.natural_thresholds(ensemble) if val is None else evaluation.fitted_thresholds(val.outputs, ensemble)
    )
    metrics, milliseconds = times or ({}, [float("nan")] * len(ensemble.members))
    members = members_table(ensemble, evaluation.member_metrics(outputs, ensemble, thresholds), milliseconds)
    found = {
        **accuracy_metrics(probabilities, test.base, outputs.labels),
        **size_metrics(members, base, ensemble.spec.input_shape),
        **metrics,
    }
    found |= {} if val is None else val.metrics
    numbers = {name: float(value) for name, value in found.items()}
    return _Judged(numbers, members, probabilities, None if val is None else val.answers)


def _validated(ensemble: Ensemble, val: Answered, combine: str | None) -> _Validated:
    """Fit the combination of an ensemble, with which it answers from then on, and return its answers by fits without each."""
    combinations = fit_combinations(ensemble.groups, val.outputs, combine)
    ensemble.calibration = combinations.chosen
    held_out, labels = combinations.held_out[combinations.method], val.outputs.labels
    answers = pd.DataFrame({"label": labels, "ensemble": held_out.argmax(1), "base": val.base.argmax(1)})
    return _Validated(val.outputs, answers)


def _differences(gains: Mapping[str, Difference], role: str) -> pd.DataFrame:
    """Return the accuracy of what was judged less that of the others, from the others' gains over it."""
    rows = {
        f"{TITLES[role]} - {TITLES[name]}": {"difference": less.difference, "low": less.low, "high": less.high}
        for name, less in ((name, -each) for name, each in gains.items())
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _verdict(
    role: str,
    metrics: Mapping[str, float],
    others: Mapping[str, Mapping[str, float]],
    gains: Mapping[str, Difference],
) -> str:
    judged = evaluated(role, metrics, None, _LOG)
    if judged is None:
        return ""
    rivals = [base_model(judged, gains[BASE_MODEL], _NEXT[BASE_MODEL])]
    for name, measured in others.items():
        rival = evaluated(name, measured, gains[name], _NEXT[name])
        rivals += [rival] if rival else []
    return str(verdict(judged, rivals, _MEASURE if role == ENSEMBLE and not others else ""))
