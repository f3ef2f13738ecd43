"""sensAI: class-parallel ensembles of pruned members, one per class or group of classes."""

__version__ = "0.2.0"
