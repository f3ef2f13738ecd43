"""Run the entry point `retrain` for `mlflow run`; its stage is `sensai.stages.retrain`."""

from checkout import launch

if __name__ == "__main__":
    launch("retrain")
