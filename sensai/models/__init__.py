"""Architectures by name, foreign checkpoints, and safe storage of networks of any width.

`architectures` registers networks without importing torch. `factory` builds them, `foreign_checkpoints` loads trained
weights. `widths` and `storage` describe and store pruned networks.
"""
