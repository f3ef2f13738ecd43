"""Run the entry point `grouping_study` for `mlflow run`; its stage is `sensai.stages.grouping_study`."""

from checkout import launch

if __name__ == "__main__":
    launch("grouping_study")
