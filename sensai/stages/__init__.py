"""The entry points, a module each.

data -> baseline -> activations -> group -> prune -> retrain -> evaluate -> register; `main` runs them all, `report` shows them.
"""
