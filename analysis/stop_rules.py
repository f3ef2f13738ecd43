"""The figure and the table of stop rules, from the trainings of `analysis/studies/stop_curves.py`.

python -m analysis.stop_rules

The script makes docs/results/stop_rules.png, and the block `stop_rules` of the documents. Without trainings it makes nothing.
"""

import json
from pathlib import Path

import pandas as pd

from analysis.documents import PAGES, RESULTS, figure, write
from sensai.analysis.figures.static_stopping import stop_regret
from sensai.analysis.markdown import markdown_table
from sensai.analysis.stop_regret import chosen, fronts, measured, replays

TRAININGS = RESULTS / "stopping"
FIGURE = "stop_rules.png"
# The mean that a rule may give up on the half that it is fitted on: half a point.
MOST_GIVEN_UP = 0.005


def main() -> None:
    """Draw the figure and write the table."""
    trainings = collected(TRAININGS)
    if not trainings.empty:
        stop_regret(fronts(measured(replays(trainings)))).savefig(PAGES / FIGURE, dpi=150)
    write(blocks())


def blocks() -> dict[str, str]:
    """Return the table of stop rules and the figure, as the documents show them; nothing where there are no trainings."""
    trainings = collected(TRAININGS)
    if trainings.empty:
        return {}
    return {
        "stop_rules": markdown_table(shown(replays(trainings))),
        "stop_rules figure": figure("Accuracy given up against epochs saved, one line a rule", FIGURE),
    }


def collected(folder: Path) -> pd.DataFrame:
    """Return the epochs of all trainings in a folder."""
    frames = [pd.read_parquet(file) for file in sorted(folder.glob("*.parquet"))]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def shown(replayed: pd.DataFrame) -> pd.DataFrame:
    """Return the best setting of each rule as readers see it: a text a cell."""
    rows = [
        {
            "rule": row["rule"],
            "setting": ", ".join(f"`{name}={value:g}`" for name, value in json.loads(row["setting"]).items()),
            "members": f"{row['members']}",
            "epochs saved": f"{100 * row['saved']:.0f} %",
            "points given up, mean": _points(row["given_up"]),
            "95 % interval": f"{_points(row['low'])} to {_points(row['high'])}",
            "95th percentile": _points(row["given_up_95"]),
        }
        for row in chosen(replayed, MOST_GIVEN_UP).to_dict("records")
    ]
    return pd.DataFrame(rows)


def _points(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


if __name__ == "__main__":
    main()
