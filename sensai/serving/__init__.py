"""An ensemble behind HTTP whose members may run on many machines.

`application` deploys it with Ray Serve. `shards` run on the machines; they need neither torch nor MLflow runs. `protocol`
defines requests and responses.
"""
