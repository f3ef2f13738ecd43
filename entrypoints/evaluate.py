"""Run the entry point `evaluate` for `mlflow run`; its stage is `sensai.stages.evaluate`."""

from checkout import launch

if __name__ == "__main__":
    launch("evaluate")
