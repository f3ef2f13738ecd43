"""Standard streams that are closed, broken, full or narrow, each in a real process."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.processes

_PREPARED = "import sys\nfrom sensai import terminal\nterminal.prepare()\n"


def shell(code: str, redirected: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a script with its streams redirected by a shell; `bash` fails if any process of a pipe does."""
    command = f"set -o pipefail; '{sys.executable}' -c \"$CODE\" {redirected}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={"CODE": _PREPARED + code, **environment},
        capture_output=True,
        check=False,
        timeout=120,
    )


_ENDLESS = "while terminal.answer('y' * 1000):\n    pass\nsys.exit(7)\n"
_SAYS = "for _ in range(1000):\n    terminal.say('y' * 1000)\nprint('done', file=sys.stderr)\n"


def test_who_reads_no_more_is_noticed() -> None:
    ended = shell(_ENDLESS, "| head -1")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, b"y" * 1000 + b"\n", b"")


@pytest.mark.parametrize("redirected", ["| head -1", ">/dev/full", ">&-"])
def test_what_is_also_found_elsewhere_may_be_lost(redirected: str) -> None:
    ended = shell(_SAYS, redirected)
    assert (ended.returncode, ended.stderr) == (0, b"done\n")


def test_answers_that_cannot_be_written_are_bad_input() -> None:
    code = "try:\n    terminal.answer('1')\nexcept terminal.InputError as error:\n    print(error, file=sys.stderr)\n"
    ended = shell(code, ">/dev/full")
    assert (ended.returncode, ended.stderr) == (0, b"standard output cannot be written (No space left on device)\n")


@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-", "2> >(true)"])
def test_what_cannot_be_told_is_dropped(redirected: str) -> None:
    code = "for _ in range(1000):\n    print('y' * 1000, file=sys.stderr)\nprint('done')\n"
    ended = shell(code, redirected)
    assert (ended.returncode, ended.stdout) == (0, b"done\n")


@pytest.mark.parametrize("redirected", ["<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_stream(redirected: str) -> None:
    code = "import os, tempfile\nwith tempfile.TemporaryFile() as file:\n    sys.exit(0 if file.fileno() > 2 else 5)\n"
    assert shell(code, redirected).returncode == 0


def test_what_the_terminal_cannot_show_is_escaped() -> None:
    code = "terminal.say('caf\\u00e9 \\udcff')\nprint('caf\\u00e9', file=sys.stderr)\n"
    ended = shell(code, "", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"caf\\xe9 \\udcff\n", b"caf\\xe9\n")
