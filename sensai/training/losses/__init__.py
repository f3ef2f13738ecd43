"""The losses that members minimise: one loss a file, found by name.

A loss is a function that returns the mean loss of one batch, a tensor of shape () with a gradient. Outcomes are what a network
tells apart: those of one member, or all K classes where the loss is joint. The function's parameters say what it uses:

| parameter | what it is | depends on |
| --- | --- | --- |
| `logits` | float32 (N, outcomes); a member of one class has a logit of 0 for "none" | |
| `targets` | float32 (N, outcomes): the share of each outcome in the label, after smoothing and mixing | |
| `weight` | float32 (outcomes,): how much each outcome counts | `balance` |
| `teacher` | float32 (N, outcomes): the base model's probability of each outcome | a forward pass of the base model |
| `kd_weight` | share of the target that is the teacher's, in [0, 1]; at 0 nobody asks the teacher | `kd_weight` |
| `kd_temperature` | divides the logits of teacher and members, above 0 | `kd_temperature` |
| `logit_standardization` | whether these logits are standardised before | `logit_standardization` |

The trait `joint` means that all members learn together: the logits are those of all K classes, and all members get gradients.
A joint loss ignores `balance`, because its outcomes are always weighted.

Imports without torch, so that the command line is parsed at once: heavy imports stand inside the functions.
"""

from sensai.parts import Family

LOSSES = Family(
    "loss",
    __name__,
    "sensai.losses",
    ("logits", "targets", "weight", "teacher", "kd_weight", "kd_temperature", "logit_standardization"),
    traits={"joint": False},
)
