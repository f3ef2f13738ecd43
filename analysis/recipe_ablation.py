"""Retrain control, replicas and ensemble by each part of the recipe, and print what each part gains on validation images.

python analysis/recipe_ablation.py [--rows control ensemble] [--seeds 0 1 2] [--out recipe_ablation.parquet] name=value ...

`name=value` are the parameters of `retrain` that all trainings share, e.g. dataset=cifar10 arch=resnet20 epochs=16
target_flops=0.125. Every part is tried alone, and all parts together. Each training is compared with the plain one of
its row and seed. Finished trainings are found in MLflow's store, so a killed ablation goes on where it was.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import t

from sensai.config import RetrainConfig
from sensai.stages import retrain
from sensai.tracking import Store

ROWS: Mapping[str, Mapping[str, Any]] = {
    "control": {"method": "most_similar", "n_groups": 1},
    "replicas": {"method": "replicas", "n_groups": 5},
    "ensemble": {"method": "most_similar", "n_groups": 5},
}
PLAIN = "plain"
PARTS: Mapping[str, Mapping[str, Any]] = {
    "kd_temperature": {"kd_temperature": 4},
    "logit_standardization": {"logit_standardization": True, "kd_temperature": 2},
    "label_smoothing": {"label_smoothing": 0.1},
    "weight_averaging": {"weight_averaging": "ema"},
    "auto_augment": {"auto_augment": "trivialaugment"},
    "mixup": {"mix": "mixup", "mix_alpha": 0.2},
    "cutmix": {"mix": "cutmix"},
}
# Without standardised logits and MixUp, which stand for the same as the parts beside them.
TOGETHER = ("kd_temperature", "label_smoothing", "weight_averaging", "auto_augment", "cutmix")
RECIPES: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {},
    **PARTS,
    "all": {name: value for part in TOGETHER for name, value in PARTS[part].items()},
}
CONFIDENCE = 0.95


def main() -> None:
    """Train what is not yet trained, write the table of all trainings, and print the gains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=["control", "ensemble"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("recipe_ablation.parquet"))
    parser.add_argument("shared", nargs="*", help="name=value")
    arguments = parser.parse_args()
    shared = {"loss": "joint_kd"} | dict(pair.split("=", 1) for pair in arguments.shared)
    trained = trainings(arguments.rows, arguments.seeds, shared)
    trained.to_parquet(arguments.out)
    sys.stdout.write(gains(trained).round(4).to_string(index=False) + "\n")


def trainings(rows: Sequence[str], seeds: Sequence[int], shared: Mapping[str, Any]) -> pd.DataFrame:
    """Return a training a line: row, recipe, seed, run_id, val_accuracy, seconds."""
    lines = []
    for seed, row, recipe in product(seeds, rows, RECIPES):
        run_id = retrain.run(RetrainConfig.model_validate({**shared, **ROWS[row], **RECIPES[recipe], "seed": seed}))
        metrics = Store.connect().metrics_of(run_id)
        names = {name: metrics[name] for name in ("val_accuracy", "seconds")}
        lines.append({"row": row, "recipe": recipe, "seed": seed, "run_id": run_id, **names})
    return pd.DataFrame(lines)


def gains(trained: pd.DataFrame) -> pd.DataFrame:
    """Return the gain of each recipe over the plain one: its mean over seeds, with a t interval of paired differences."""
    plain = trained[trained["recipe"] == PLAIN].set_index(["row", "seed"])["val_accuracy"]
    others = trained[trained["recipe"] != PLAIN].set_index(["row", "seed"])
    gain = others.assign(gain=others["val_accuracy"] - plain.reindex(others.index))
    found = gain.groupby(["recipe", "row"])["gain"].agg(["mean", "sem", "count"]).reset_index()
    reach = found["sem"] * t.ppf((1 + CONFIDENCE) / 2, found["count"] - 1)
    return found.assign(low=found["mean"] - reach, high=found["mean"] + reach).drop(columns="sem")


if __name__ == "__main__":
    main()
