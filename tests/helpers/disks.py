"""A small disk for one test: a tmpfs in a mount namespace, which ends with its process."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

# Mount the disk, copy the seed, run the command, list the files.
_SCRIPT = """
mount -t tmpfs -o "size=$1" none "$2" || exit 99
[ -z "$3" ] || cp -a "$3/." "$2/" || exit 98
[ "$4" = rw ] || mount -o remount,ro "$2" || exit 97
listing=$5 disk=$2
shift 5
"$@"
status=$?
find "$disk" -mindepth 1 -printf '%P\\n' > "$listing"
exit $status
"""


@dataclass(frozen=True)
class Ran:
    """A finished process that had the disk.

    Attributes:
        status: exit status.
        out: standard output.
        errors: standard error.
        left: relative paths of the files left on the disk.
    """

    status: int
    out: str
    errors: str
    left: list[str]


@cache
def _namespace() -> list[str] | None:
    """Return the command that gives a process mounts of its own; None if this machine has none."""
    ways = [["unshare", "-m"]] if os.geteuid() == 0 else [["unshare", "-rm"]]
    for way in ways:
        if shutil.which(way[0]) is None:
            continue
        probe = subprocess.run(
            [*way, "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, timeout=60, check=False
        )
        if probe.returncode == 0:
            return way
    return None


def run_on_small_disk(
    command: list[str],
    disk: Path,
    kib: int,
    *,
    seed: Path | None = None,
    read_only: bool = False,
    timeout: float = 900,
    **environment: str,
) -> Ran:
    """Run a command with an empty folder `disk` that is a disk of so many KiB.

    Skip the test if neither root nor a user namespace may mount.

    Args:
        command: the command.
        disk: mount point of the disk.
        kib: its size.
        seed: a folder that is copied to the disk first.
        read_only: True if nothing else may be written.
        timeout: seconds after which the command is ended.
        environment: more variables.
    """
    if (namespace := _namespace()) is None:
        pytest.skip("no small disk: mounting needs root or `unshare -rm`, and neither works here")
    disk.mkdir(parents=True, exist_ok=True)
    listing = disk.with_name(f"{disk.name}.listing")
    arguments = [f"{kib}k", str(disk), str(seed or ""), "ro" if read_only else "rw", str(listing)]
    result = subprocess.run(
        [*namespace, "sh", "-c", _SCRIPT, "sh", *arguments, *command],
        cwd=disk.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode not in (97, 98, 99), result.stderr
    return Ran(result.returncode, result.stdout, result.stderr, listing.read_text().splitlines())
