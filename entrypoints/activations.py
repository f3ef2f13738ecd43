"""Run the entry point `activations` for `mlflow run`; its stage is `sensai.stages.activations`."""

from checkout import launch

if __name__ == "__main__":
    launch("activations")
