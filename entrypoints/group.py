"""Run the entry point `group` for `mlflow run`; its stage is `sensai.stages.group`."""

from checkout import launch

if __name__ == "__main__":
    launch("group")
