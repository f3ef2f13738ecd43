"""Training of the base model and of members.

`objectives` is the loss and the metrics of a network. `member_trainer` holds a network with its optimizer, schedule, stop rules
and `checkpoints`. `joint_trainer` holds members that share one loss. `training_loop` feeds shared batches to the trainers.
`workers` runs that loop in one process, `rendezvous` connects processes that train members jointly, and `backends` starts them.
`members` deals the members of an ensemble to workers. `precision` and `captured` make steps fast.
"""
