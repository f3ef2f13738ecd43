"""Jobs in processes of their own: their results, and no process left."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPT = """
from sensai.training.backends.local import in_processes
from tests.helpers.bars import counted
print(in_processes(counted, [2, 3], 1))
print(in_processes(counted, [3, 2], 1))
"""


@pytest.mark.processes
def test_processes_that_have_ended_leave_nothing_that_python_warns_of() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["[2, 3]", "[3, 2]"]
    assert "leaked" not in result.stderr
