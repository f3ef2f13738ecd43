"""serve: see `sensai/stages/serve.py`; parameters as in MLproject."""

from cli import launch

if __name__ == "__main__":
    launch("serve")
