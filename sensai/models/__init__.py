"""Architectures by name, foreign checkpoints, and safe storage of networks of any width.

`architecture_names` lists the architectures without importing torch. `factory` builds networks, `foreign_checkpoints` loads
trained weights. `widths` and `storage` describe and store pruned networks.
"""
