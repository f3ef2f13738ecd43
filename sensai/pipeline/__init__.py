"""The machinery of stages: context, session, cache, lineage, the life of runs, studies, and callbacks of long work."""
