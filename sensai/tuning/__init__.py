"""Optuna studies of logged runs: the search space, the study with its workers and promotions, and its results.

The package knows configurations only as names and values, and runs only as ids: stages pass both in. It imports no torch.
"""

import optuna

# Stages log the results of their trials themselves.
optuna.logging.set_verbosity(optuna.logging.ERROR)
