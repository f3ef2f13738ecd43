"""Run the entry point `contention` for `mlflow run`; its stage is `sensai.stages.contention`."""

from checkout import launch

if __name__ == "__main__":
    launch("contention")
