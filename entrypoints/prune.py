"""Run the entry point `prune` for `mlflow run`; its stage is `sensai.stages.prune`."""

from checkout import launch

if __name__ == "__main__":
    launch("prune")
