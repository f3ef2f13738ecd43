"""sensAI: class-parallel ensembles of pruned members, one per class or group of classes."""
