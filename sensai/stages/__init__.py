"""The stages in the order in which data flows, and their configurations.

data -> baseline -> activations -> group -> prune -> retrain -> evaluate -> register; `main` runs them all, `report` shows them.
"""
