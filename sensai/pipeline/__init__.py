"""What makes a stage: its context and session, cache, lineage, the life of its run, studies, and callbacks of long work."""
