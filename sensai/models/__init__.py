"""Architectures by name, foreign checkpoints, safe storage of networks of any width.

`names` knows what exists without importing torch; `factory` builds, `checkpoints` adopts trained weights,
`widths` and `storage` describe and keep a network whose layers were cut.
"""
