"""The shell blocks of a page: found, and run as a reader would, one after the other in one session."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

# A reason may stand on the line before the opening fence, which may be indented.
_FENCED = re.compile(
    r"^(?:[ ]*% not run:(?P<reason>[^\n]*)\n)?(?P<indent>[ ]*)(?P<fence>`{3,}|:{3,})(?P<language>[^\n`]*)\n"
    r"(?P<content>.*?)^(?P=indent)(?P=fence)[ ]*$",
    flags=re.DOTALL | re.MULTILINE,
)
RUN = "bash"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: of its first line of content, counted from 1.
        language: what follows the fence.
        content: without the indentation of the fence.
        reason: why it is not run; None: none is given.
    """

    line: int
    language: str
    content: str
    reason: str | None

    @property
    def is_run(self) -> bool:
        return self.language == RUN and self.reason is None


def blocks_of(text: str) -> list[Block]:
    """Return the fenced blocks of a page, also those inside directives with more backticks or with colons."""
    found = []
    for match in _FENCED.finditer(text):
        first = text.count("\n", 0, match.start("content")) + 1
        content, language = match["content"], match["language"].strip()
        inner = [replaced(each, first) for each in blocks_of(content)] if language.startswith("{") else []
        reason = None if match["reason"] is None else match["reason"].strip()
        found += inner or [Block(first, language, textwrap.dedent(content), reason)]
    return found


def replaced(block: Block, first: int) -> Block:
    """Return a block of a part of a page, whose first line is `first`, with its line in the page."""
    return Block(block.line + first - 1, block.language, block.content, block.reason)


def run_page(text: str, folder: Path, seconds: float) -> str:
    """Run the blocks of a page in one shell session, in a folder whose `mlflow.db` is the store; return what they print.

    Raises:
        AssertionError: a command fails, with the line of its block; or the page takes longer than `seconds`.
    """
    script = ["set -euo pipefail"]
    for block in blocks_of(text):
        if block.is_run:
            script += [f"echo '--- line {block.line}' >&2", block.content]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # The command `sensai` of the environment may be that of another checkout.
        "PYTHONPATH": str(ROOT),
    }
    session = subprocess.Popen(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = session.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"takes longer than {seconds} s:\n{_end(error.stdout)}") from error
    finally:
        # Servers of a page that failed.
        with suppress(ProcessLookupError):
            os.killpg(session.pid, signal.SIGKILL)
    assert session.returncode == 0, _end(printed)
    return printed


def _end(printed: str | bytes | None) -> str:
    text = printed.decode(errors="replace") if isinstance(printed, bytes) else printed or ""
    return text[-6000:]
