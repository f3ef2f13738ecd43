"""A script: a Ray of this machine, for as long as its standard input is open. Its argument is the number of CPUs.

Of a process that is killed, Ray's own agents are left for another minute. This one stands between: it sees its input end
when the process that holds the other side is gone, shuts Ray down in order, and removes its files.
"""

import sys
import tempfile
from contextlib import suppress

import psutil
import ray


def main(cpus: int) -> None:
    """Start, tell the address, wait, end."""
    # Ray lets everyone into the folder that it is given, so that is one below a folder of our own.
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
        # A spare worker that is only starting looks for the others once it has.
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]))
