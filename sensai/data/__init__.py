"""Data sets as memory-mapped arrays or streams, splits, per-member labels, augmentation.

`sets` has the data sets that have a name, `folders` finds image files, `resizing` brings images to the network's size,
`streaming` decodes files ahead of the batch that is computed with, `dataset` ties them together, `batches` feeds them.
"""
