"""contention: Measure what trainings at once do to each other on this machine.

`job` stores what is trained and scored as files. `naive` and `engine` are two ways to do it, timed by `work`.
`measured_process` is one process of either way. `measuring` starts the processes, takes time and memory, and makes the table,
which `experiment` logs. This package imports nothing by itself, since every measured process imports it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sensai.config import ContentionConfig
    from sensai.pipeline.closing import Findings
    from sensai.tracking import Store


def run(config: "ContentionConfig") -> str:
    """Run the stage; return the id of the run to use."""
    from sensai.stages.contention.experiment import stage

    return stage.run(config)


def found(store: "Store", run_id: str) -> "Findings":
    """Return what a run measured, in words."""
    from sensai.stages.contention import experiment

    return experiment.found(store, run_id)
