"""Run the entry point `promote` for `mlflow run`; its stage is `sensai.stages.promote`."""

from checkout import launch

if __name__ == "__main__":
    launch("promote")
