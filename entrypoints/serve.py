"""Run the entry point `serve` for `mlflow run`; its stage is `sensai.stages.serve`."""

from checkout import launch

if __name__ == "__main__":
    launch("serve")
