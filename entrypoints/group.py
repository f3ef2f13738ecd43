"""group: see `sensai/stages/group.py`; parameters as in MLproject."""

from cli import launch

if __name__ == "__main__":
    launch("group")
