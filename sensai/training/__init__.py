"""Training of the base model and retraining of members.

`objectives` says what a network learns and how it is judged, `trainee` is a network with optimiser, schedule, stop rule and
`checkpoints`, `teams` puts those together that learn by one loss, `fitting` is the loop over shared batches. `slots` is one
process that does all that, `exchange` what slots tell each other where members learn jointly, `backends` what runs slots, and
`members` deals the members of an ensemble to them. `precision`, `layout` and `captured` make steps fast.
"""
