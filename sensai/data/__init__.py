"""Data sets as memory-mapped arrays or streams, splits, per-member labels, augmentation.

`names` knows what exists without importing torch; `sources` and `folders` find each kind of data set, `fitting` brings images
to the network's size, `streaming` decodes files ahead of the batch that is computed with, `dataset` ties them together,
`batches` feeds them.
"""
