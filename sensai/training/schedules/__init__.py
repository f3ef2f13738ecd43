"""Schedules of the learning rate: one a file, found by name.

A schedule is a function that returns a `torch.optim.lr_scheduler.LRScheduler`, stepped after every batch. To resume,
it must have its state in `state_dict()` as JSON values; functions are left out. The function's parameters say what it uses:

| parameter | what it is | depends on |
| --- | --- | --- |
| `optimizer` | `torch.optim.Optimizer` of one member | `weight_decay` |
| `peak_lr` | the largest learning rate | `lr` |
| `steps` | number of batches of the whole training, at least 1 | `epochs`, `batch_size` |
| `steps_per_epoch` | number of batches of an epoch, at least 1 | `batch_size` |
| `decay_steps` | number of batches of the decay, at least 1, at most `steps` | `decay_epochs`, `batch_size` |
| `decay_start` | function that returns the number of batches before the decay | `decay_epochs`, `epochs`, `batch_size` |

With a schedule that takes `decay_steps`, a stop begins the decay, and the training ends after it. Before a stop `decay_start`
returns `steps` less `decay_steps`. With other schedules a stop ends the training at once.

A training that fails is tried once more with half the rates: `lr`, `initial_lr`, `max_lr` and `min_lr` of the optimizer's
groups and `base_lrs` of the schedule are halved.

Imports without torch, so that the command line is parsed at once: heavy imports stand inside the functions.
"""

from sensai.parts import Family

SCHEDULES = Family(
    "schedule",
    __name__,
    "sensai.schedules",
    ("optimizer", "peak_lr", "steps", "steps_per_epoch", "decay_steps", "decay_start"),
)
