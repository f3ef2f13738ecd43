"""Try the configurations of a study, each in a run of its own, and find logged runs that are as good as trials."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow.entities import Run as StoredRun
from optuna import Trial, TrialPruned
from pydantic import ValidationError

from sensai.config import PruneConfig, RetrainConfig, TuneConfig
from sensai.errors import EndedEarlyError
from sensai.evaluation import calibrated_accuracy
from sensai.pipeline.callbacks import Watcher, watched
from sensai.pipeline.context import Context
from sensai.pipeline.devices import device_of
from sensai.pipeline.lineage import upstream_of, upstream_tags
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage
from sensai.pipeline.study_runs import Candidate, StudyRun, open_study_run
from sensai.stages import activations, group, prune, retrain
from sensai.stages.evaluate.latencies import critical_path
from sensai.stages.evaluate.measured_host import timing_host
from sensai.stages.prune import prune_execution
from sensai.tracking import Store, tags
from sensai.tracking.metric_names import CALIBRATED_VAL_ACCURACY
from sensai.tuning.goals import Goal, Outcome
from sensai.tuning.logged import LoggedRun
from sensai.tuning.space import EPOCHS, Space, Values
from sensai.tuning.studies import complete

STAGE = "trial"
# The attribute of a trial that holds its run id.
TRIAL_RUN = "trial_run"
_LATENCIES = ("latency_base_ms", "latency_member_max_ms")
_PRUNE_RUN = f"{tags.UPSTREAM}prune"
_SIZES = ("flops_max", "flops_total", "flops_base", "params_max", "members")


@dataclass(frozen=True)
class Trials:
    """Tries the configurations of a study, and tells it of logged runs that are as good.

    Attributes:
        config: of the study.
        goal: of the study.
        study: its name.
        session: its store is searched, and gets the new runs.
        parent: run that those of trials are nested below.
        upstream: stage -> run id, of the runs that all trials stand on.
        interrupted: returns True where the user wants it to end.
    """

    config: TuneConfig
    goal: Goal
    study: str
    session: Session
    parent: str
    upstream: Mapping[str, str]
    interrupted: Callable[[], bool]

    @property
    def store(self) -> Store:
        """Return the store of the session."""
        return self.session.store

    def __call__(self, trial: Trial, values: Values) -> Outcome:
        """Try a configuration: prune, and retrain where it has epochs, unless the store has the result.

        Raises:
            InputError: it cannot be built, or not trained.
            TrialPruned: it has been given up, since others are better.
        """
        config = self.config.trial(**values)
        try:
            with open_study_run(self._candidate(trial, config, values), self.session, self.parent) as run:
                trial.set_user_attr(TRIAL_RUN, run.run.id)
                outcome = self._tried(trial, config, run)
                run.run.log_metrics(outcome.all_metrics)
        except EndedEarlyError as error:
            raise TrialPruned(str(error)) from error
        return outcome

    def _candidate(self, trial: Trial, config: RetrainConfig, values: Values) -> Candidate:
        labels = {
            tags.STUDY: self.study,
            tags.TRIAL: str(trial.number),
            **upstream_tags(self.upstream),
            # People filter by the plain names of parameters.
            **{name: str(value) for name, value in values.items()},
        }
        return Candidate(STAGE, _title(trial.number, values), config, config.recipe(), labels)

    def _tried(self, trial: Trial, config: RetrainConfig, run: StudyRun) -> Outcome:
        upstream = run.ensure(prune.stage, _as_cut(config))
        sizes = self.store.metrics_of(upstream["prune"])
        latencies = self._measured(config, upstream, run) if self.goal.objective == "latency" else {}
        trained = bool(config.epochs) and self._worth_training(trial, self._cost(sizes, latencies))
        if trained:
            with watched(_TrialWatcher(trial, self.interrupted, prunes=self.goal.limit is not None)):
                upstream = run.ensure(retrain.stage, config)
        judged = self._judged(config, upstream, run)
        return self._outcome(upstream, config.epochs if trained else 0, sizes, judged, latencies)

    def _worth_training(self, trial: Trial, cost: float) -> bool:
        """Return True where it keeps to the limit of cost, which training does not change.

        Raises:
            EndedEarlyError: another trial has reached the accuracy that is sought at less cost.
        """
        if self.goal.limit is not None:
            return cost <= self.goal.limit
        if self.goal.min_val_accuracy is not None:
            reached = [each for each in complete(trial.study) if all(by <= 0 for by in each.constraints.values())]
            cheapest = min((each.value for each in reached if each.value is not None), default=math.inf)
            if cheapest <= cost:
                trial.report(cost, 0)
                raise EndedEarlyError(f"costs {cost:.4g}; {cheapest:.4g} is known to be enough")
        return True

    def _judged(self, config: RetrainConfig, upstream: Mapping[str, str], study_run: StudyRun) -> dict[str, float]:
        """Return the metrics of the last stage; an earlier version did not log the one to rank by, so it is computed."""
        last = _last(upstream)
        metrics = self.store.metrics_of(upstream[last])
        if CALIBRATED_VAL_ACCURACY in metrics:
            return metrics
        context = self._context(config, upstream, study_run)
        if last == retrain.stage.name:
            ensemble = retrain.load(self.store, upstream[last]).to(context.device)
        else:
            ensemble = prune_execution.build(context, prune.load(self.store, upstream[last]))
        outputs = prune_execution.validation_outputs(ensemble, context)
        assert outputs is not None
        return metrics | {CALIBRATED_VAL_ACCURACY: calibrated_accuracy(outputs, ensemble.groups)}

    def _context(self, config: RetrainConfig, upstream: Mapping[str, str], study_run: StudyRun) -> Context:
        """Return the inputs to run a trial's members outside their stage."""
        run = study_run.run
        return Context(config, study_run.session, run, upstream, run.id, Path(config.work_dir))

    def _measured(self, config: RetrainConfig, upstream: Mapping[str, str], study_run: StudyRun) -> dict[str, float]:
        """Return the latencies of the members before training, which does not change them; measured once on this machine."""
        run = study_run.run
        run.set_tags({tags.HOST: self._host})
        known = self._known_latencies(upstream["prune"])
        if known is None:
            context = self._context(config, upstream, study_run)
            ensemble = prune_execution.cut(context, prune.load(self.store, upstream["prune"]))
            val = context.data.val
            assert val is not None
            known = critical_path(context.base_model, ensemble, val, self.config.runtime, context.device)
        run.log_metrics(known)
        return known

    def _known_latencies(self, prune_run: str) -> dict[str, float] | None:
        """Return the latencies that another trial measured on such a machine, None if none did."""
        return self._measured_by(self.store.tagged(STAGE, _PRUNE_RUN, prune_run)).get(prune_run)

    def _measured_by(self, trials: Iterable[StoredRun]) -> dict[str, dict[str, float]]:
        """Return prune run -> the latencies of its members that trials on such a machine have measured."""
        return {
            run.data.tags[_PRUNE_RUN]: {name: run.data.metrics[name] for name in _LATENCIES}
            for run in trials
            if run.data.tags.get(tags.HOST) == self._host and run.data.metrics.keys() >= set(_LATENCIES)
        }

    @cached_property
    def _host(self) -> str:
        """Return the JSON of all that latencies depend on beside the members."""
        return json.dumps(timing_host(self.config.runtime, device_of(self.config)))

    def logged(self, space: Space) -> Iterator[LoggedRun]:
        """Return finished runs, of any origin, that would answer the study if it asked for their parameters.

        Only the seed may differ. A pruning that was retrained, or that a trial of this study has begun to retrain, is no
        configuration of its own, unless the study has trials without retraining. Runs of earlier versions, which did not log
        the accuracy to rank by, are left out. They answer trials that ask for their parameters.
        """
        runs = {stage: self._finished(stage) for stage in (prune.stage, retrain.stage)}
        retrained = {run.data.tags[_PRUNE_RUN] for run in runs[retrain.stage]}
        on_the_way = {run.info.run_id for run in runs[prune.stage] if run.data.tags.get(tags.STUDY) == self.study}
        passed = set() if 0 in self.config.rungs else retrained | on_the_way
        as_cut = [run for run in runs[prune.stage] if run.info.run_id not in passed]
        by_latency = self.goal.objective == "latency"
        measured = self._measured_by(self.store.tagged(STAGE, *self._of_these_data)) if by_latency else {}
        metrics = {run.info.run_id: run.data.metrics for found in runs.values() for run in found}
        for stage, found in ((prune.stage, as_cut), (retrain.stage, runs[retrain.stage])):
            for run in found:
                if CALIBRATED_VAL_ACCURACY not in run.data.metrics:
                    continue
                if (values := self._values(stage, run, space)) is None:
                    continue
                upstream = {**upstream_of(run.data.tags), stage.name: run.info.run_id}
                latencies = measured.get(upstream["prune"]) if by_latency else {}
                if latencies is not None:
                    sizes = metrics.get(upstream["prune"]) or self.store.metrics_of(upstream["prune"])
                    outcome = self._outcome(upstream, values[EPOCHS], sizes, run.data.metrics, latencies)
                    yield LoggedRun(values, outcome)

    @property
    def _of_these_data(self) -> tuple[str, str]:
        return tags.DATA_DIGEST, self.session.data_digest(self.config)

    def _finished(self, stage: Stage[Any]) -> list[StoredRun]:
        """Return the finished runs of a stage on the same data, oldest first, without retrainings of no epochs."""
        found = self.store.tagged(stage.name, *self._of_these_data)
        if self.config.warm_start == "study":
            found = [run for run in found if run.data.tags.get(tags.STUDY) == self.study]
        if stage is retrain.stage:
            found = [run for run in found if json.loads(run.data.tags[tags.CONFIG])["epochs"]]
        return found[::-1]

    def _values(self, stage: Stage[Any], run: StoredRun, space: Space) -> Values | None:
        """Return the configuration of a run; None where the run would not answer the study."""
        logged = {EPOCHS: 0, **json.loads(run.data.tags[tags.CONFIG])}
        own = {each.name: logged[each.name] for each in space.parameters if each.exists(logged) and each.name in logged}
        try:
            config = self.config.trial(**{**own, EPOCHS: logged[EPOCHS], "seed": logged["seed"]})
        except ValidationError:
            return None
        return logged if self._fingerprint(stage, config) == run.data.tags[tags.FINGERPRINT] else None

    def _fingerprint(self, stage: Stage[Any], config: RetrainConfig) -> str:
        as_cut = _as_cut(config)
        groups = group.stage.config.model_validate(as_cut.upstream(group.stage.config).model_dump())
        before = group.stage.fingerprint(groups, self.session, self._activations[groups.needs_backward])
        cut = prune.stage.fingerprint(as_cut, self.session, before)
        return cut if stage is prune.stage else retrain.stage.fingerprint(config, self.session, cut)

    @cached_property
    def _activations(self) -> dict[bool, str]:
        """Return the fingerprints of the activations without and with a backward pass; kept, since they are made from files."""
        stage, before = activations.stage, {}
        for criterion in ("apoz", "taylor"):
            shared = self.config.trial(criterion=criterion, policy="ratio").upstream(stage.config)
            own = stage.config.model_validate(shared.model_dump())
            before[own.needs_backward] = stage.fingerprint(own, self.session)
        return before

    def _outcome(
        self,
        upstream: Mapping[str, str],
        epochs: int,
        sizes: Mapping[str, float],
        judged: Mapping[str, float],
        latencies: Mapping[str, float],
    ) -> Outcome:
        """Return the outcome of runs, given the metrics of the pruning and of the last stage."""
        metrics = {
            **{name: sizes[name] for name in _SIZES},
            EPOCHS: epochs,
            "flops_speedup": sizes["flops_base"] / sizes["flops_max"],
            **latencies,
            "val_accuracy": judged["val_accuracy"],
        }
        accuracy, cost = judged[CALIBRATED_VAL_ACCURACY], self._cost(sizes, latencies)
        return Outcome(accuracy, cost, upstream[_last(upstream)], metrics)

    def _cost(self, sizes: Mapping[str, float], latencies: Mapping[str, float]) -> float:
        """Return the cost as a share of the base model's, given the metrics of the pruning."""
        if latencies:
            return latencies["latency_member_max_ms"] / latencies["latency_base_ms"]
        return sizes[self.goal.objective] / sizes["flops_base"]


class _TrialWatcher(Watcher):
    """End training after an epoch in which the user interrupts it, or after which the study's pruner gives it up."""

    def __init__(self, trial: Trial, interrupted: Callable[[], bool], prunes: bool) -> None:
        self._trial = trial
        self._interrupted = interrupted
        self._prunes = prunes
        self._values: dict[int, list[float]] = {}
        self._pruned: EndedEarlyError | None = None

    def on_epoch(self, member: int, members: int, epoch: int, value: float) -> None:
        """Report the mean of all members, once all have had the epoch."""
        values = self._values.setdefault(epoch, [])
        values.append(value)
        if not self._prunes or len(values) < members or self._pruned:
            return
        self._trial.report(sum(values) / members, epoch + 1)
        if self._trial.should_prune():
            self._pruned = EndedEarlyError(f"pruned after {epoch + 1} epochs")

    def why_end(self) -> BaseException | None:
        """Return the exception to raise after the current epoch; see `Watcher`."""
        return KeyboardInterrupt() if self._interrupted() else self._pruned


def _last(upstream: Mapping[str, str]) -> str:
    """Return the stage that a trial ended with."""
    return retrain.stage.name if retrain.stage.name in upstream else prune.stage.name


def _as_cut(config: RetrainConfig) -> PruneConfig:
    return PruneConfig.model_validate(config.upstream(PruneConfig).model_dump())


def _title(number: int, values: Values) -> str:
    shown = (f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items())
    return f"trial {number}: {' '.join(shown)}"
