"""Schedules of the learning rate: one a file, found by name.

A schedule is a function that returns a `torch.optim.lr_scheduler.LRScheduler`, stepped after every batch. To resume,
it must have its state in `state_dict()` as JSON values; functions are left out. The function's parameters say what it uses:

| parameter | what it is | depends on |
| --- | --- | --- |
| `optimizer` | `torch.optim.Optimizer` of one member | `weight_decay` |
| `peak_lr` | the largest learning rate | `lr` |
| `steps` | number of batches of the whole training, at least 1 | `epochs`, `batch_size` |

A training that fails is tried once more with half the rates: `lr`, `initial_lr`, `max_lr` and `min_lr` of the optimizer's
groups and `base_lrs` of the schedule are halved.

Imports without torch, so that the command line is parsed at once: heavy imports stand inside the functions.
"""

from sensai.parts import Family

SCHEDULES = Family("schedule", __name__, "sensai.schedules", ("optimizer", "peak_lr", "steps"))
