"""Data sets as memory-mapped arrays, splits, per-member labels, augmentation.

`names` knows what exists without importing torch; `sources` reads each kind of data set, `fitting` brings images to the
network's size, `store` keeps the decoded arrays, `dataset` ties them together, `batches` feeds them.
"""
