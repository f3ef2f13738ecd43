"""What every entry point does: parse, check, run the stage; one line and status 2 for what the user can mend.

Parsing comes before the heavy imports, so that a wrong parameter is refused at once.
"""

import gc
import importlib
import logging
import os
import signal
import sys
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

# Nothing that takes time before signals are caught.
from sensai import terminal
from sensai.cluster.processes import end_with, keep_memory, let_threads_sleep
from sensai.errors import InputError
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
    from pydantic_settings import BaseSettings

    from sensai.config import EntryPoint

# `mlflow run` waits for the process that it started; where it is killed, that would go on unseen.
_OPENED_BY_MLFLOW = "MLFLOW_RUN_ID"
_UNEXPECTED = 1
_STORE, _DEFAULT_STORE = "MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"
_BAD_INPUT = 2
_SIGNALLED = 128
_HELP = {"--help", "-h"}


def parse(stage: str, arguments: list[str]) -> "EntryPoint":
    """The configuration of a stage from its command line.

    Raises:
        InputError: unknown parameters, or values that are not allowed, all of them named.
    """
    from pydantic import ValidationError
    from pydantic_settings import CliApp, SettingsError

    from sensai.config import CONFIGS, describe_errors, unknown_parameter

    config = CONFIGS[stage]
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and name not in {*config.model_fields, "help"}:
            raise unknown_parameter(name, config)
    try:
        given = CliApp.run(_command_line(config), _with_flags(arguments, config), cli_exit_on_error=False)
        return config.model_validate(given.model_dump())
    except ValidationError as error:
        raise InputError(describe_errors(error)) from error
    except SettingsError as error:
        raise InputError(str(error).removeprefix("error parsing CLI: ")) from error


def _with_flags(arguments: list[str], config: "type[EntryPoint]") -> list[str]:
    """The arguments with `true` behind each flag that stands alone, as `--traceback` does."""
    flags = {f"--{name}" for name, field in config.model_fields.items() if field.annotation is bool}
    given: list[str] = []
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue="--"):
        given += [argument, "true"] if argument in flags and following.startswith("--") else [argument]
    return given


def _command_line(config: "type[EntryPoint]") -> "type[BaseSettings]":
    """The configuration as settings that come from the command line alone, never from the environment."""
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class CommandLine(BaseSettings, config):  # type: ignore[misc, valid-type]
        __doc__ = config.__doc__
        model_config = SettingsConfigDict(case_sensitive=True, cli_hide_none_type=True, cli_avoid_json=True)

        @classmethod
        def settings_customise_sources(cls, *_: object, **__: object) -> tuple[()]:
            return ()

    return CommandLine


def launch(stage: str) -> None:
    """Run a stage with the parameters of the command line and end the process."""
    terminal.prepare()
    use_short_hooks()
    catch_signals()
    if _OPENED_BY_MLFLOW in os.environ:
        end_with(os.getppid(), signal.SIGTERM)
    try:
        status = _Launch(stage, sys.argv[1:]).status()
    # It came just where `status` could not catch it; while it is handled none follows.
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
        self._prints_traceback = "--traceback" in arguments

    def status(self) -> int:
        """Do what the command line asks for; returns the process's status."""
        try:
            self._run()
            stop_raising()
            return 0
        except BaseException as error:
            stop_raising()
            return self._ended(error)

    def _run(self) -> None:
        config = parse(self._stage, self._arguments)
        self._work_dir = Path(getattr(config, "work_dir", self._work_dir))
        self._prints_traceback = config.traceback
        _quieten()
        let_threads_sleep()
        keep_memory()
        run_id = _imported(f"sensai.stages.{self._stage}").run(config)
        # What answers on standard output names its run elsewhere.
        if run_id:
            terminal.say(f"{self._stage} run: {run_id}")

    def _ended(self, error: BaseException) -> int:
        if isinstance(error, SystemExit) and _HELP & set(self._arguments):
            return 0
        _close_runs(error)
        if requested() or isinstance(error, KeyboardInterrupt):
            return _SIGNALLED + (requested() or signal.SIGINT)
        if self._prints_traceback:
            print(full_traceback(error), file=sys.stderr)
        from sensai.files import storage_error

        # A full disk shows before there is a run too, and where the run could not even be closed.
        told = storage_error(error, database=os.environ.get(_STORE, _DEFAULT_STORE)) or error
        if isinstance(told, InputError):
            self._say(str(told))
            return _BAD_INPUT
        self._say(f"{explained(error)}; {self._where(error)}")
        return _UNEXPECTED

    def _where(self, error: BaseException) -> str:
        """Keep the traceback, and tell where."""
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


def _close_runs(error: BaseException) -> None:
    """Close the runs that are still open."""
    # Where nothing has been tracked yet there are none.
    if tracking := sys.modules.get("sensai.tracking"):
        tracking.close_begun(error)


def _log_traceback(text: str) -> None:
    if tracking := sys.modules.get("sensai.tracking"):
        try:
            tracking.log_on_top(text, tracking.artifact_names.TRACEBACK)
        # The store may be what is broken.
        except Exception as failure:
            logging.getLogger(__name__).debug("the traceback is no artifact: %s", failure)


def _imported(name: str) -> ModuleType:
    """A module, imported without looking for garbage meanwhile: there is none, and to look takes a sixth of these seconds."""
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.enable()


def _quieten() -> None:
    """Say what sensAI does; of what its libraries do, only warnings."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("sensai").setLevel(logging.INFO)
    logging.getLogger("alembic").propagate = False
    # It logs every error of the database, with its traceback, and then raises it.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # It costs a request a run, and goes to standard output, where `predict` answers.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # What MLflow reports about its use is sent beside our requests; it has raced with them.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
