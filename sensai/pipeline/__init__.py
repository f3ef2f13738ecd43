"""What makes a stage: its context, cache, lineage, the life of its run, and the callbacks of long work."""
