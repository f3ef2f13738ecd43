"""Run the entry point `baseline` for `mlflow run`; its stage is `sensai.stages.baseline`."""

from checkout import launch

if __name__ == "__main__":
    launch("baseline")
