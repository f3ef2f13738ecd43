"""What the processes of one trainer tell each other."""

import socket
from functools import partial
from pathlib import Path

import pytest
import torch

from sensai.training.backends.local import in_processes
from sensai.training.rendezvous import Rendezvous, _backend, _loopback_interface, rendezvous
from sensai.training.workers import END, ended


def one_looks_earlier(folder: Path, rank: int) -> list[bool]:
    """Whether this process would end, before and after the file is there, which only the one of rank 1 sees in time."""
    with rendezvous(Rendezvous(folder / "rendezvous", rank, 2, loopback=True), torch.device("cpu")) as group:
        mine = folder / f"{rank}"
        mine.mkdir()
        before = ended(mine / END, group)
        if rank == 1:
            (mine / END).touch()
        return [before, ended(mine / END, group)]


@pytest.mark.processes
def test_workers_that_learn_jointly_end_in_the_same_epoch(tmp_path: Path) -> None:
    assert in_processes(partial(one_looks_earlier, tmp_path), [0, 1], threads=1) == [[False, True], [False, True]]


@pytest.mark.parametrize(("system", "name"), [("Linux", "lo"), ("macOS", "lo0")])
def test_the_loopback_interface_of_each_system(system: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"Linux": ["lo", "eth0"], "macOS": ["en0", "lo0", "gif0"]}[system]
    monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(there)))
    assert _loopback_interface() == name


@pytest.mark.parametrize("there", [False, True])
def test_a_worker_by_itself_ends_where_the_file_is(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / END).touch()
    assert ended(tmp_path / END, None) == there


@pytest.mark.parametrize(
    ("kind", "gpus", "loopback", "expected"),
    [
        ("cpu", 0, True, "gloo"),
        ("cpu", 4, True, "gloo"),
        ("cuda", 2, True, "nccl"),
        ("cuda", 1, True, "gloo"),
        # On other machines there are GPUs that this one does not see.
        ("cuda", 1, False, "nccl"),
    ],
)
def test_nccl_is_taken_where_each_of_two_workers_has_a_gpu_of_its_own(
    kind: str, gpus: int, loopback: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert _backend(Rendezvous(Path("rendezvous"), 0, 2, loopback), torch.device(kind)) == expected
