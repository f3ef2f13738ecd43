"""Run an entry point: parse, check, run its stage. An error of the user gives one line and status 2.

Parsing comes before the heavy imports, so that a wrong parameter is refused at once.
"""

import importlib
import logging
import os
import signal
import sys
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

# Signals must be caught before anything that takes time.
from sensai import terminal
from sensai.cluster.processes import end_with, keep_memory, let_threads_sleep, runs_command, without_collection
from sensai.errors import InputError
from sensai.input_paths import look_first_in
from sensai.last_resort import explained, full_traceback, kept, use_short_hooks
from sensai.signals import (
    Interrupted,
    Terminated,
    catch_signals,
    release_signals,
    requested,
    stop_raising,
)

if TYPE_CHECKING:
    from sensai.config import EntryPoint

# If `mlflow run` is killed, the process that it started would go on unseen.
_OPENED_BY_MLFLOW = "MLFLOW_RUN_ID"
_UNEXPECTED = 1
_STORE, _DEFAULT_STORE = "MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"
BAD_INPUT = 2
_SIGNALLED = 128
_HELP = {"--help", "-h"}
_SHELLS = {"bash", "dash", "ksh", "sh", "zsh"}


def parse(stage: str, arguments: list[str]) -> "EntryPoint":
    """Return the configuration of a stage from its command line.

    Raises:
        InputError: unknown parameters, or values that are not allowed, all of them named.
    """
    with without_collection():
        from sensai.config import arguments as command_line

    return command_line.parse(stage, arguments, defaults_are_given=_OPENED_BY_MLFLOW in os.environ)


def launch(stage: str, arguments: list[str]) -> None:
    """Run an entry point with the parameters of a command line, and end the process.

    Statuses: 0; 2 for an error of the user; 1 for an unexpected error; 128 + number for a signal.
    """
    terminal.prepare()
    use_short_hooks()
    catch_signals()
    if _OPENED_BY_MLFLOW in os.environ:
        end_with(os.getppid(), signal.SIGTERM)
    try:
        status = _Launch(stage, arguments).status()
    # The signal came where `status` could not catch it. No other follows while it is handled.
    except (Terminated, Interrupted):
        stop_raising()
        status = _SIGNALLED + requested()
    release_signals()
    sys.exit(status)


class _Launch:
    """One call of an entry point."""

    def __init__(self, stage: str, arguments: list[str]) -> None:
        self._stage = stage
        self._arguments = arguments
        self._work_dir = Path(".sensai")
        # Parsing itself may fail.
        self._prints_traceback = _asks_for_traceback(arguments)

    def status(self) -> int:
        """Run the command line; return the process's status."""
        try:
            self._run()
            stop_raising()
            return 0
        except BaseException as error:
            stop_raising()
            return self._ended(error)

    def _run(self) -> None:
        if _HELP & set(self._arguments):
            from sensai.config.help import render
            from sensai.stages import summary

            terminal.say(render(self._stage, summary(self._stage)))
            return
        if _OPENED_BY_MLFLOW in os.environ and (folder := _folder_of_mlflow_run()):
            look_first_in(folder)
        try:
            config = parse(self._stage, self._arguments)
        except InputError as error:
            if _OPENED_BY_MLFLOW in os.environ:
                from sensai.pipeline.run_lifecycle import refuse_opened_run

                refuse_opened_run(self._stage, error)
            raise
        self._work_dir = Path(getattr(config, "work_dir", self._work_dir))
        self._prints_traceback = config.traceback
        _quieten(logging.WARNING if config.quiet else logging.INFO)
        let_threads_sleep()
        keep_memory()
        what = f"{self._stage}: imports its libraries, which takes longest the first time"
        with terminal.waiting(what), without_collection():
            module = importlib.import_module(f"sensai.stages.{self._stage}")
        run_id = module.run(config)
        # Stages that print results to standard output report their run id on standard error.
        if run_id:
            if not config.quiet:
                from sensai.pipeline.closing import say_closing

                say_closing(self._stage, run_id, module.found)
            terminal.say(f"{self._stage} run: {run_id}")

    def _ended(self, error: BaseException) -> int:
        _close_runs(error)
        if requested() or isinstance(error, KeyboardInterrupt):
            return _SIGNALLED + (requested() or signal.SIGINT)
        if self._prints_traceback:
            print(full_traceback(error), file=sys.stderr)
        from sensai.files import storage_error

        # A full disk can show before there is a run, and when a run is closed.
        told = storage_error(error, database=os.environ.get(_STORE, _DEFAULT_STORE)) or error
        if isinstance(told, InputError):
            self._say(str(told))
            return BAD_INPUT
        self._say(f"{explained(error)}; {self._where(error)}")
        return _UNEXPECTED

    def _where(self, error: BaseException) -> str:
        """Keep the traceback; return a text that tells where."""
        text = full_traceback(error)
        _log_traceback(text)
        file = kept(text, self._stage, self._work_dir)
        return (
            f"traceback: {file}"
            if file
            else "no file could be written for its traceback, which --traceback true prints"
        )

    def _say(self, message: str) -> None:
        print(f"error: {self._stage}: {message}", file=sys.stderr)


def _asks_for_traceback(arguments: list[str]) -> bool:
    """Return True if a command line has `--traceback`, alone or with `true`; `mlflow run` always gives a value."""
    return any(
        argument == "--traceback" and (following.startswith("--") or following.lower() == "true")
        for argument, following in zip_longest(arguments, arguments[1:], fillvalue="--")
    )


def _folder_of_mlflow_run() -> Path | None:
    """Return the folder where the user called `mlflow run`, None where another program started this process.

    `mlflow run` starts this process in the project's folder.
    """
    import psutil

    # The process may have ended, or belong to another user.
    with suppress(psutil.Error):
        # MLflow starts a shell, which remains as a parent if it activates an environment.
        ancestors = [each for each in psutil.Process().parents()[:2] if each.name() not in _SHELLS]
        if ancestors and runs_command(ancestors[0].cmdline(), "mlflow", "run"):
            return Path(ancestors[0].cwd())
    return None


def _close_runs(error: BaseException) -> None:
    """Close the runs that are still open."""
    # No run exists where nothing has been tracked.
    if tracking := sys.modules.get("sensai.tracking"):
        tracking.close_begun(error)


def _log_traceback(text: str) -> None:
    if tracking := sys.modules.get("sensai.tracking"):
        try:
            tracking.log_on_top(text, tracking.artifact_names.TRACEBACK)
        # The store itself may be broken.
        except Exception as failure:
            logging.getLogger(__name__).debug("the traceback is no artifact: %s", failure)


def _quieten(level: int) -> None:
    """Log what sensAI does from a level on, and only the warnings of its libraries."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("sensai").setLevel(level)
    if level > logging.INFO:
        os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger("alembic").propagate = False
    # MLflow's store logs every database error with its traceback, and then raises it.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # The link to a run costs a request, and goes to standard output, where `predict` answers.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # MLflow sends its telemetry in parallel with our requests, and has raced with them.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
