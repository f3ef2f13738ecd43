"""An ensemble behind HTTP, in one process or on a cluster. Nothing here imports torch before it is asked for an image file.

`http_application` has the routes, `watched_application` what stands before them, `protocol` the contents of requests and
responses. `local_server` runs them in one process with `local_members`. `ray_server` deploys them with Ray Serve; its `shards`
run on the machines of the cluster.
"""
