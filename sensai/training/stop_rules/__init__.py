"""Rules that stop the training of a member before its last epoch: one a file, found by name.

With a schedule that has a decay, a stop begins the decay, and the training ends after it.

A stop rule is a function that returns whether the training stops now. It is asked after every epoch, and decides by nothing but
its inputs, so that a resumed training stops in the same epoch. Its parameters say what it uses:

| parameter | what it is | depends on |
| --- | --- | --- |
| `values` | the validation metric of every epoch so far, larger is better; empty without validation data | |
| `patience` | number of epochs, at least 1 | `patience` |
| `min_gain` | what counts as gain in the metric, at least 0 | `min_gain` |
| `target` | value of the metric, in [0, 1] | `target` |

The trait `goal` means that the rule holds where enough is reached, so that its name is the reason even if others hold. Such a
rule ends the training at once, and is asked in a decay too.
A rule that takes `patience` is not asked where that is 0, nor one that takes `target` where there is none.

Imports without torch, so that the command line is parsed at once: heavy imports stand inside the functions.
"""

from sensai.parts import Family

STOP_RULES = Family(
    "stop rule",
    __name__,
    "sensai.stop_rules",
    ("values", "patience", "min_gain", "target"),
    traits={"goal": False},
)
