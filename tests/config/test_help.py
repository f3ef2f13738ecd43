"""The help of every entry point: each parameter once, with its default, its own first."""

import re

import pytest

from sensai.config import CONFIGS
from sensai.config.help import render
from sensai.config.usage import default_texts, parameters_of


@pytest.mark.parametrize("stage", CONFIGS)
def test_every_parameter_stands_once_with_its_default(stage: str) -> None:
    text = render(stage, "Do what it does")
    assert text.startswith(f"sensai {stage}: Do what it does\n\nExample: sensai {stage} --")
    heads = re.findall(r"^  --(\w+) \S+(?:  \[(.*)\])?$", text, re.MULTILINE)
    assert dict(heads) == {**default_texts(CONFIGS[stage]), "config": ""}
    assert len(heads) == len(CONFIGS[stage].model_fields) + 1


def test_own_parameters_come_first_then_those_of_earlier_stages() -> None:
    titles = re.findall(r"^(Parameters of .*):$", render("prune", ""), re.MULTILINE)
    earlier = [f"Parameters of {stage}, an earlier stage" for stage in ("baseline", "activations", "group")]
    assert titles == ["Parameters of prune", *earlier, "Parameters of how it runs"]


def test_conditions_and_names_are_shown() -> None:
    text = " ".join(render("prune", "").split())
    assert "(matters where policy is threshold and target_flops is not given)" in text
    assert "--policy ratio|threshold [ratio]" in text
    assert "names: mobilenetv2, resnet20" in text


@pytest.mark.parametrize("stage", CONFIGS)
def test_examples_are_accepted(stage: str) -> None:
    example = re.search(r"Example: sensai \w+ (.*)", render(stage, ""))
    assert example
    for name in re.findall(r"--(\w+)", example[1]):
        assert name in parameters_of(CONFIGS[stage])
