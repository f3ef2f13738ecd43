"""The workers of a stage, on this machine or on a Ray cluster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from sensai.cluster.cores import deal
from sensai.cluster.nodes import share_nodes
from sensai.cluster.ray_cluster import ray_cluster
from sensai.config import RetrainConfig
from sensai.pipeline.devices import worker_devices
from sensai.training.members import Workers


@contextmanager
def open_workers(costs: Sequence[float], config: RetrainConfig) -> Iterator[Workers]:
    """Deal members by their costs to workers that exist while the block runs.

    Raises:
        InputError: the cluster does not exist, or it has no room.
    """
    if config.backend == "local" or not config.epochs:
        devices, threads = worker_devices(config, len(costs))
        yield Workers(deal(costs, len(devices)), devices, threads)
        return
    with ray_cluster(config.ray_address) as cluster:
        # The module imports Ray, which is optional and reads its settings on import.
        from sensai.training.backends.ray_tasks import run_on_ray

        nodes = cluster.nodes
        gpu = any(node.gpus for node in nodes) if config.device == "auto" else config.device != "cpu"
        jobs, threads = share_nodes(nodes, len(costs), gpu, config.jobs, config.threads)
        # Ray shows each task only its own GPU.
        devices = [torch.device("cuda" if gpu else "cpu")] * jobs
        yield Workers(deal(costs, jobs), devices, threads, partial(run_on_ray, cluster), cluster.loopback)
