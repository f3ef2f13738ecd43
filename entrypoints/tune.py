"""Run the entry point `tune` for `mlflow run`; its stage is `sensai.stages.tune`."""

from checkout import launch

if __name__ == "__main__":
    launch("tune")
