"""Ways to run workers: in processes of this machine (`local`), or as tasks of a Ray cluster (`ray_tasks`).

Ray is optional. Only `ray_tasks` imports it, and it is imported only after a cluster has been joined.
"""
