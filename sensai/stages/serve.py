"""serve: Answer over HTTP until interrupted, on one machine or on a Ray cluster.

The members of a registered ensemble are on the machines of the cluster.
"""

import logging

from sensai.config import ServeConfig
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.run_lifecycle import open_entry_run
from sensai.serving.application import Placement, served
from sensai.signals import wait_for_signal
from sensai.tracking import Store

_log = logging.getLogger(__name__)


def found(store: Store, run_id: str) -> Findings:
    """Return how many requests a run has answered."""
    return Findings([sentence(store.metrics_of(run_id), "{requests:count} requests answered")])


def run(config: ServeConfig) -> str:
    """Answer requests until Ctrl-C or SIGTERM, which end the run as FINISHED; return its id.

    Raises:
        InputError: Ray Serve is not installed, there is no such model or cluster, or the cluster has no room.
    """
    with open_entry_run(config, f"{config.stage} {config.model_uri}", __doc__) as (_, run):
        placement = Placement(
            config.shards, config.replicas, config.replicas_per_node, config.threads, config.resources
        )
        with served(config.model_uri, placement, config.host, config.port, config.ray_address) as server:
            _log.info(
                "%s answers at http://%s:%d, in %d shards; Ctrl-C ends it",
                config.model_uri,
                config.host,
                config.port,
                server.shards,
            )
            # A server is ended by a signal, so this is no failure.
            wait_for_signal()
            run.log_metrics({"requests": server.answered()})
    return run.id
