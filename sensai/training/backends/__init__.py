"""Where workers run: in this process or processes of this machine (`local`), or as tasks of a Ray cluster (`ray_cluster`).

Ray is optional: only `ray_tasks` imports it at once, and is imported where workers run on a cluster that has been joined.
"""
