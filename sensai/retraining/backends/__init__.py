"""Where slots run: in this process or processes of this machine (`local`), or as tasks of a Ray cluster (`ray_cluster`).

Ray is optional: only `ray_tasks`, imported where a cluster is joined, imports it.
"""
