"""Data sets as memory-mapped arrays or streams, splits, labels of members, augmentation.

`dataset_names` lists the data sets without importing torch. `sources` and `folders` read each kind. `resizing` fits images
to the size of the network. `streaming` decodes files ahead of the computation. `dataset` joins them, and `batches` feeds
the network.
"""
