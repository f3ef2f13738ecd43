"""Optuna studies of what was logged: the search space, the study with its workers and promotions, and what it found.

Knows of configurations only names and values, of runs only ids: stages hand both in. Imports no torch.
"""

import optuna

# Stages say what their trials do.
optuna.logging.set_verbosity(optuna.logging.ERROR)
