"""An ensemble behind HTTP whose members may be on many machines: `application` deploys it with Ray Serve, `replicas` is what
runs on the machines (neither torch nor the store's client of runs), `protocol` what clients send and get.
"""
