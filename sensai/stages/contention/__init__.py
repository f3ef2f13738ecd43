"""contention: Measure what trainings at once do to each other on this machine.

`job` is what is trained and scored, as files; `naive` and `engine` are two ways to do it, by the yardstick of `work`;
`measured_process` is one process of either; `measuring` starts them, takes time and memory, and makes the table, which
`experiment` logs. Imports nothing by itself: every measured process imports this package.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sensai.config import ContentionConfig


def run(config: "ContentionConfig") -> str:
    """Run the stage; returns the id of the run to use."""
    from sensai.stages.contention.experiment import stage

    return stage.run(config)
