"""Run the entry point `register` for `mlflow run`; its stage is `sensai.stages.register`."""

from checkout import launch

if __name__ == "__main__":
    launch("register")
