"""predict: see `sensai/stages/predict.py`; parameters as in MLproject."""

from cli import launch

if __name__ == "__main__":
    launch("predict")
