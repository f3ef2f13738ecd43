"""Run the entry point `main` for `mlflow run`; its stage is `sensai.stages.main`."""

from checkout import launch

if __name__ == "__main__":
    launch("main")
