"""Load the user's own code, named as `path/to/file.py:factory` or `package.module:factory`."""

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from sensai.errors import InputError, described
from sensai.input_paths import searched
from sensai.signals import Terminated

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
REFERENCE = re.compile(rf".+\.py:\w+|{_MODULE.pattern}:\w+")


def load_factory(reference: str, parameter: str) -> Callable[..., Any]:
    """Return the callable that a reference names; errors of its calls become InputErrors.

    Modules are searched on the import path and in the working directory. A file may import modules beside it.

    Args:
        reference: file or module, and name, separated by the last colon.
        parameter: the parameter that gave the reference, for the messages.

    Raises:
        InputError: no such file or module, an error in it, no such name, or the name is not callable.
    """
    place, _, name = reference.rpartition(":")
    factory = getattr(_load(reference, parameter), name, None)
    if not callable(factory):
        raise InputError(f"{parameter}={reference!r}: {place!r} defines no function {name!r}")

    @wraps(factory)
    def called(*arguments: Any, **named: Any) -> Any:
        with users_code(f"{parameter}={reference!r}: the function failed"):
            return factory(*arguments, **named)

    return called


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """Turn any error of the user's code within the block, `sys.exit` included, into an InputError.

    Args:
        what: start of the message; the error follows in brackets.

    Raises:
        InputError: the code raised something.
    """
    try:
        yield
    except (InputError, Terminated):
        raise
    except SystemExit as error:
        raise InputError(f"{what} (it calls sys.exit({error.code!r}), which would end sensAI)") from error
    # Any error of the user's code is the user's to correct.
    except Exception as error:
        raise InputError(f"{what} ({described(error)})") from error


def factory_digest(reference: str, parameter: str) -> str:
    """Return the SHA-256 of the source file that a reference names; its imports are not included.

    Raises:
        InputError: no such file or module, or an error in it.
    """
    file = getattr(_load(reference, parameter), "__file__", None)
    if file is None:
        raise InputError(f"{parameter}={reference!r}: the module has no source file")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _load(reference: str, parameter: str) -> ModuleType:
    place = reference.rpartition(":")[0]
    is_module = _MODULE.fullmatch(place) is not None and not place.endswith(".py")
    file = Path(place)
    if not is_module and not os.path.isfile(place):
        raise InputError(f"{parameter}={reference!r}: there is no file {place!r}{searched(place)}")
    if not is_module and file.suffix != ".py":
        raise InputError(f"{parameter}={reference!r}: {place!r} is not a Python file")
    with users_code(f"{parameter}={reference!r}: reading {place!r} failed"):
        try:
            return _import_module(place) if is_module else _import_file(file)
        except ModuleNotFoundError as error:
            raise InputError(f"{parameter}={reference!r}: there is no module {error.name!r}") from error


def _import_module(name: str) -> ModuleType:
    _search(Path.cwd())
    return importlib.import_module(name)


def _import_file(file: Path) -> ModuleType:
    """Return the file as a module, executed once for each content, so that its classes stay the same within the process."""
    file = file.resolve()
    content = hashlib.sha256(f"{file} ".encode() + file.read_bytes()).hexdigest()
    name = f"sensai_user_{file.stem}_{content[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    loader = SourceFileLoader(name, str(file))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    _search(file.parent)
    # Data classes and pickling look up their module by name.
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _search(folder: Path) -> None:
    """Search imports in a folder too, after all other places."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()
