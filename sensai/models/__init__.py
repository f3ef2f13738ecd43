"""Architectures by name, foreign checkpoints, safe storage of networks of any width.

`architectures` registers networks without importing torch, `factory` builds them, `foreign_checkpoints` adopts trained
weights, `widths` and `storage` describe and keep a network whose layers were cut.
"""
