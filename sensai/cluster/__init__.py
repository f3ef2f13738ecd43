"""Cores, processes, and the nodes of a Ray cluster: what training and serving run on. Imports no torch."""
