"""What processes pass on to those that they start."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(("of_the_user", "own", "given"), [(None, "passive", None), ("active", "active", "active")])
def test_threads_sleep_unless_the_user_says_otherwise(of_the_user: str | None, own: str, given: str | None) -> None:
    code = (
        "import json, os\n"
        "from sensai.processes import given_environment, let_threads_sleep\n"
        "let_threads_sleep()\n"
        "print(json.dumps([each.get('OMP_WAIT_POLICY') for each in (os.environ, given_environment())]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": of_the_user} if of_the_user else {}
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert json.loads(printed.stdout) == [own, given]
