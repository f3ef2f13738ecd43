"""The lines with which an entry point ends, and why no stored run answers."""

import os
import re
import subprocess
from dataclasses import replace
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

from sensai import terminal
from sensai.cli import parse
from sensai.config import CONFIGS
from sensai.pipeline.closing import Findings, closing_lines, headline, kept_whole, sentence
from sensai.pipeline.nearest_run import why_none_fits
from sensai.pipeline.session import Session
from sensai.stages import ENTRY_POINTS, prune
from sensai.tracking import Store
from tests.conftest import Entry, command, tiny
from tests.helpers.pipeline import FinishedMain, Pruned

EVERY_STAGE = ("baseline", "activations", "group", "prune", "retrain", "evaluate", "register", "report")


def test_a_sentence_has_the_phrases_whose_metrics_are_there() -> None:
    metrics = {"accuracy": 0.97222, "flops": 2_987_264.0, "share": 0.123, "ms": 12.345, "count": 65834.0}
    phrases = ("accuracy {accuracy:accuracy}", "{flops:flops} of {share:share}", "{ms:ms}", "{other:count} others")
    assert sentence(metrics, *phrases) == "accuracy 0.9722, 2.99 MFLOPs of 12.3 %, 12.3 ms"
    assert sentence(metrics, "{count:count}", "{ms:.1f}x") == "65,834, 12.3x"
    assert sentence({}, *phrases) == ""


def test_the_first_layers_that_stay_whole_are_named_with_their_reasons() -> None:
    assert kept_whole({}) == []
    reasons = {f"layer{number}": f"reason {number}" for number in range(5)}
    assert kept_whole(reasons) == ["kept whole: layer0 (reason 0), layer1 (reason 1), layer2 (reason 2), and 2 more"]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_every_entry_point_with_a_run_says_what_it_found(name: str) -> None:
    module = import_module(f"sensai.stages.{name}")
    assert callable(getattr(module, "found", None)) or signature(module.run).return_annotation is None


@pytest.mark.parametrize("stage", EVERY_STAGE)
def test_every_stage_says_what_it_found_and_the_next_command_takes_its_run(finished: FinishedMain, stage: str) -> None:
    store, run_id = Store.connect(), finished.upstream(stage)
    found = import_module(f"sensai.stages.{stage}").found(store, run_id)
    assert all(found.facts)
    if stage != "report":
        _, entry_point, *arguments = found.next.split()
        # An evaluation goes on as its verdict says.
        assert stage in ("evaluate", "register") or arguments == ["--from_run", run_id]
        assert parse(entry_point, arguments)
    line = headline(stage, run_id, lambda *_: found, store, stored=True)
    assert line == f"{stage}: {found.facts[0]}; run {run_id}, from the store"
    assert "\n" not in line


@pytest.mark.parametrize(
    ("uri", "opens"),
    [
        (
            "sqlite:////tmp/m.db",
            "`sensai ui`, then http://127.0.0.1:5000/#/experiments/{}/runs/{}?workflowType=machine_learning",
        ),
        ("http://user:secret@host:80/", "/#/experiments/{}/runs/{}?workflowType=machine_learning"),
    ],
)
def test_the_last_lines_say_where_the_run_opens_and_what_comes_next(pruned: Pruned, uri: str, opens: str) -> None:
    run = pruned.place.run(pruned.run_id)
    lines = closing_lines("prune", Findings(["a fact", "a\ntable"], "sensai retrain"), run, uri)
    assert lines[:2] == ["prune: a fact", "a\ntable"]
    assert lines[2].startswith("in the UI: ")
    assert lines[2].endswith(opens.format(run.info.experiment_id, run.info.run_id))
    assert "secret" not in lines[2]
    assert lines[3:] == ["next: sensai retrain"]
    lines = closing_lines("prune", Findings([], "sensai retrain", "to train"), run, uri)
    assert lines[1:] == ["next, to train: sensai retrain"]


def why(pruned: Pruned, digest: str | None = None, host: str = "{}", **changed: object) -> str:
    config = CONFIGS["prune"](**tiny("prune", **changed))
    store = Store.connect()
    session = Session(store)
    return why_none_fits(
        config, prune.stage.fingerprint(config, session), digest or session.dataset(config).digest, host, store
    )


def test_the_nearest_stored_run_and_its_differences_are_named(pruned: Pruned) -> None:
    assert why(pruned) == "", "it fits, so nothing is to be said"
    nearest = f"no stored run fits; the nearest, {pruned.run_id}, differs in "
    assert why(pruned, ratio=0.25) == f"{nearest}ratio (0.5, here 0.25)"
    assert why(pruned, ratio=0.25, criterion="l1") == f"{nearest}criterion (apoz, here l1), ratio (0.5, here 0.25)"
    assert why(pruned, digest="other", ratio=0.25) == f"{nearest}ratio (0.5, here 0.25), the data"
    assert why(pruned, host='{"cpu": "fast"}', ratio=0.25).endswith("the machine's cpu (None, here fast)")


def test_of_several_runs_the_one_with_the_fewest_differences_is_named(pruned: Pruned) -> None:
    config = pruned.place.config("prune", ratio=0.25, min_channels=2)
    prune.run(config)
    assert f"{pruned.run_id}, differs in ratio (0.5, here 0.3)" in why(pruned, ratio=0.3)
    assert ", differs in ratio (0.25, here 0.3)" in why(pruned, ratio=0.3, min_channels=2)


def test_without_any_run_of_the_stage_nothing_is_said(pruned: Pruned) -> None:
    config = CONFIGS["retrain"](**tiny("retrain"))
    assert why_none_fits(config, "none", "any", "{}", Store.connect()) == ""


def test_a_version_of_the_code_is_the_difference_where_no_other_is(
    pruned: Pruned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "stage", replace(prune.stage, version=99))
    assert "nothing that it names: its code had another version" in why(pruned)


def test_only_a_wait_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "sensai")
    with terminal.waiting("reads nothing", seconds=10):
        pass
    with terminal.waiting("reads a large file", seconds=0.01):
        while not caplog.messages:
            pass
    assert caplog.messages == ["reads a large file ..."]


@pytest.mark.processes
def test_the_command_ends_with_what_was_found_and_quietly_with_one_line(
    pruned: Pruned, tmp_path: Path, launched: Entry
) -> None:
    parameters = tiny("prune", ratio=0.25, work_dir=tmp_path / "work")
    quiet = subprocess.run(
        command("prune", **parameters, quiet=True), capture_output=True, text=True, env=dict(os.environ), check=True
    )
    (line,) = (quiet.stdout + quiet.stderr).splitlines()
    assert re.fullmatch("prune run: [0-9a-f]{32}", line)
    run_id = line.removeprefix("prune run: ")
    fact, opens, following, last = launched("prune", **parameters).stdout.splitlines()
    assert fact.startswith("prune: 3 members with ")
    assert f"/runs/{run_id}?" in opens
    assert (following, last) == (f"next: sensai retrain --from_run {run_id}", line)


def stages_told(output: str) -> list[str]:
    return [line.partition(":")[0] for line in output.splitlines() if "; run " in line]


@pytest.mark.long
def test_a_nested_stage_has_one_line(pruned: Pruned, tmp_path: Path) -> None:
    done = subprocess.run(
        command("retrain", **tiny("retrain", ratio=0.25, work_dir=tmp_path / "work")),
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=True,
    )
    assert stages_told(done.stderr) == ["activations", "group", "prune"]
    assert done.stderr.count("no stored run fits") == 0, "no retraining has finished, and the others follow from it"
    # The bar shows loss and validation accuracy.
    assert re.search(r"loss \d\.\d{4}, validation balanced accuracy \d\.\d{4}", done.stderr)
