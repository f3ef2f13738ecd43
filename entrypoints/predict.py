"""Run the entry point `predict` for `mlflow run`; its stage is `sensai.stages.predict`."""

from checkout import launch

if __name__ == "__main__":
    launch("predict")
