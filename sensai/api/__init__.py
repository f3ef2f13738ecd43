"""The Python interface: five verbs on a network in memory and the user's own images, without a tracking store.

`scores`, `groupings`, `pruning_verb`, `retraining_verb` and `evaluations` have the verbs, with what they return. They check
parameters as the entry points do, and call the same functions of the library. `logged_versions` alone needs MLflow.
"""
