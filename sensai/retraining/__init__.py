"""Training of the base model and retraining of members.

`objectives` says what a network learns and how it is judged, `fitting` is the loop with its stop rule and checkpoints,
`members` retrains a member of an ensemble.
"""
