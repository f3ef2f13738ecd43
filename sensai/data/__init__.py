"""Data sets as memory-mapped arrays or streams, splits, labels of members, augmentation.

`sets` has the data sets that have a name. `folders` finds image files. `images` reads them and fits them to the network.
`streaming` decodes files ahead of the computation. `dataset` joins them, and `batches` feeds the network. `transforms` has
torchvision's augmentation.
"""
