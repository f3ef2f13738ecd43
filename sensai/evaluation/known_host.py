"""Remember what timings depend on, so that a cached evaluation is found without importing torch."""

import hashlib
import json
import os
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from sensai.files import write_text

_BOOT = Path("/proc/sys/kernel/random/boot_id")
# Variables by which users choose processors, threads and accelerators.
_VARIABLES = ("ATEN_", "CUDA_", "GOMP_", "HIP_", "KMP_", "MKL_", "NVIDIA_", "OMP_", "ROCR_", "TORCH_")


def known_host(folder: Path) -> dict[str, str]:
    """Return `sensai.evaluation.host()` of a process that has just started.

    The answer is kept in a folder, and asked for again where the machine has been started anew, or libraries, cores, devices
    or variables have changed.

    Raises:
        StorageError: the answer cannot be written.
    """
    # Then asking costs nothing.
    if "torch" in sys.modules:
        return _asked()
    kept = folder / f"{_circumstances()}.json"
    with suppress(OSError, ValueError):
        return dict(json.loads(kept.read_text()))
    found = _asked()
    write_text(kept, json.dumps(found))
    return found


def _asked() -> dict[str, str]:
    from sensai.evaluation.network_sizes import host

    return host()


def _circumstances() -> str:
    """Return a digest of all that the answer may follow from."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = [
        *(sys.version, sys.executable, version("torch"), version("onnxruntime"), os.cpu_count(), cores),
        _BOOT.read_text() if _BOOT.exists() else "",
        sorted(str(device) for device in Path("/dev").glob("nvidia*")),
        sorted((name, value) for name, value in os.environ.items() if name.startswith(_VARIABLES)),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
