"""serve: Answer over HTTP until interrupted, in one process or on a Ray cluster.

In one process all members of the registered ensemble run on the cores of this machine. On a cluster they are in replicas on its
machines.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sensai.config import ServeConfig
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.run_lifecycle import open_entry_run
from sensai.serving.access import Token
from sensai.serving.access_log import STANDARD_OUTPUT
from sensai.serving.http_application import Limits
from sensai.serving.listening import Address, HttpOptions
from sensai.serving.local_server import LocalServer, served_locally
from sensai.serving.ray_server import Placement, Served, served_on_ray
from sensai.signals import wait_for_signal
from sensai.tracking import Store

_log = logging.getLogger(__name__)


def found(store: Store, run_id: str) -> Findings:
    """Return how many requests a run has answered."""
    return Findings([sentence(store.metrics_of(run_id), "{requests:count} requests answered")])


def run(config: ServeConfig) -> str | None:
    """Answer requests until Ctrl-C or SIGTERM, which end the run as FINISHED; return its id.

    Returns:
        None if the access log goes to standard output, where it must stand alone.

    Raises:
        InputError: there is no such model, the address cannot be listened on, the token or the log cannot be used; on a
            cluster also: Ray Serve is not installed, there is no such cluster, or it has no room.
    """
    with open_entry_run(config, f"{config.stage} {config.model_uri}", __doc__) as (_, run):
        with _served(config) as server:
            _log.info("%s answers at http://%s:%d; Ctrl-C ends it", config.model_uri, config.host, config.port)
            # A server is ended by a signal, so this is no failure.
            wait_for_signal()
        # The end of the block has answered what was in flight.
        run.log_metrics({"requests": server.answered})
    if config.access_log == STANDARD_OUTPUT:
        _log.info("%s run: %s", config.stage, run.id)
        return None
    return run.id


@contextmanager
def _served(config: ServeConfig) -> Iterator[LocalServer | Served]:
    address = Address(config.host, config.port)
    token = Token.of_file(config.token_file) if config.token_file else None
    options = HttpOptions(Limits(config.body_limit * 2**20, config.timeout), token, config.access_log)
    if config.on_ray:
        placement = Placement(
            config.shards, config.replicas, config.replicas_per_node, config.threads, config.resources
        )
        with served_on_ray(config.model_uri, placement, address, options, config.ray_address) as on_ray:
            yield on_ray
    else:
        with served_locally(config.model_uri, address, options, follow_alias=config.follow_alias) as local:
            yield local
