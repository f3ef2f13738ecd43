"""The space of a study holds the parameters of the recipe, and refuses values that do not go together."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler

from sensai.config import TuneConfig
from sensai.errors import InputError
from sensai.stages.tune.search_space import space_of

RECIPE: dict[str, Any] = {
    "loss": ["bce", "kd"],
    "kd_temperature": {"low": 1, "high": 8, "log": True, "when": {"loss": "kd"}},
    "logit_standardization": [False, True],
    "label_smoothing": {"low": 0.0, "high": 0.2},
    "weight_averaging": ["none", "ema"],
    "ema_decay": {"choices": [0.9, 0.99], "when": {"weight_averaging": "ema"}},
    "auto_augment": ["none", "trivialaugment"],
    "mix": ["none", "mixup", "cutmix"],
    "mix_alpha": {"low": 0.1, "high": 1.0, "when": {"mix": ["mixup", "cutmix"]}},
}


def written(folder: Path, content: dict[str, Any]) -> str:
    path = folder / "space.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_every_parameter_of_the_recipe_is_searched(tmp_path: Path) -> None:
    config = TuneConfig(space=written(tmp_path, RECIPE))
    _, space = space_of(config, classes=10)
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    trials = [config.trial(**space.suggest(study.ask())) for _ in range(40)]
    assert all(len({getattr(trial, name) for trial in trials}) > 1 for name in RECIPE)


def test_mixed_images_and_samples_do_not_go_together(tmp_path: Path) -> None:
    content = {"mix": ["none", "mixup"], "balance": ["weight", "sample"]}
    with pytest.raises(InputError, match=r"^space=.*: with .*mix='mixup': goes with balance=weight"):
        space_of(TuneConfig(space=written(tmp_path, content)), classes=10)
