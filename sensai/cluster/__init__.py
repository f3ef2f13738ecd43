"""Cores, processes, and the nodes of a Ray cluster, on which training and serving run. Imports no torch."""
