"""Run the entry point `report` for `mlflow run`; its stage is `sensai.stages.report`."""

from checkout import launch

if __name__ == "__main__":
    launch("report")
