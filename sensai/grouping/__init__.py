"""From classes to groups.

`methods` holds the grouping methods, one a file. They use the similarity of classes (`similarities`) and the cost of
members (`costs`). The package imports nothing, so that the names of the methods are known without torch.
"""
