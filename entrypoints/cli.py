"""What every entry point does: parse, check, run the stage; one line and status 2 for what the user can mend.

Parsing comes before the heavy imports, so that a wrong parameter is refused at once.
"""

import gc
import importlib
import logging
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

# As a script this folder is the first place for imports, where its names would hide other modules; the checkout's root is
# what must be there, since MLflow never installs the project.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from pydantic import ValidationError  # noqa: E402
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError  # noqa: E402

from sensai.errors import InputError  # noqa: E402
from sensai.files import storage_error  # noqa: E402
from sensai.processes import end_with, keep_memory, let_threads_sleep  # noqa: E402
from sensai.stages.configs import CONFIGS, EntryPoint, describe_errors, unknown_parameter  # noqa: E402

# `mlflow run` waits for the process that it started; where it is killed, that would go on unseen.
_OPENED_BY_MLFLOW = "MLFLOW_RUN_ID"
_STORE, _DEFAULT_STORE = "MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"
_BAD_INPUT = 2
_INTERRUPTED = 130


def parse(stage: str, arguments: list[str]) -> EntryPoint:
    """The configuration of a stage from its command line.

    Raises:
        InputError: unknown parameters, or values that are not allowed, all of them named.
    """
    config = CONFIGS[stage]
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and name not in {*config.model_fields, "help"}:
            raise unknown_parameter(name, config)
    try:
        given = CliApp.run(_command_line(config), arguments, cli_exit_on_error=False)
        return config.model_validate(given.model_dump())
    except ValidationError as error:
        raise InputError(describe_errors(error)) from error
    except SettingsError as error:
        raise InputError(str(error).removeprefix("error parsing CLI: ")) from error


def _command_line(config: type[EntryPoint]) -> type[BaseSettings]:
    """The configuration as settings that come from the command line alone, never from the environment."""

    class CommandLine(BaseSettings, config):  # type: ignore[misc, valid-type]
        __doc__ = config.__doc__
        model_config = SettingsConfigDict(case_sensitive=True, cli_hide_none_type=True, cli_avoid_json=True)

        @classmethod
        def settings_customise_sources(cls, *_: object, **__: object) -> tuple[()]:
            return ()

    return CommandLine


def launch(stage: str) -> None:
    """Run a stage with the parameters of the command line and end the process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if _OPENED_BY_MLFLOW in os.environ:
        end_with(os.getppid(), signal.SIGTERM)
    try:
        config = parse(stage, sys.argv[1:])
        _quieten()
        let_threads_sleep()
        keep_memory()
        run_id = _imported(f"sensai.stages.{stage}").run(config)
    except InputError as error:
        sys.exit(_fail(f"{stage}: {error}"))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        # Before there is a run, or where even that could not be written.
        if (failure := storage_error(error, database=os.environ.get(_STORE, _DEFAULT_STORE))) is None:
            raise
        sys.exit(_fail(f"{stage}: {failure}"))
    # What answers on standard output names its run elsewhere.
    if run_id:
        print(f"{stage} run: {run_id}")


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


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return _BAD_INPUT
