"""A script that runs a local Ray while its standard input is open. Its argument is the number of CPUs.

When a process is killed, Ray's own agents live on for another minute. This script stands between them: its input ends with
the process that started it. It then shuts Ray down in order and removes its files.
"""

import sys
import tempfile
from contextlib import suppress

import psutil
import ray


def main(cpus: int) -> None:
    """Start Ray, print the address, wait, and end."""
    # Ray makes its folder accessible to everyone, so it is a folder below our own.
    with tempfile.TemporaryDirectory(prefix="sensai-ray-", ignore_cleanup_errors=True) as folder:
        context = ray.init(
            "local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=f"{folder}/ray",
        )
        sys.stdout.write(context.address_info["gcs_address"] + "\n")
        sys.stdout.flush()
        sys.stdin.read()
        started = psutil.Process().children(recursive=True)
        ray.shutdown()
        # A spare worker that is just starting looks for the other processes only afterwards.
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]))
