"""Classes to groups: the methods, one a file (`methods`), by how alike classes are (`similarities`) and what members would cost
(`costs`).

Imports nothing by itself, so that the names of the methods are known without loading torch.
"""
