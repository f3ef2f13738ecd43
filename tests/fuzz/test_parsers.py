"""Every command line, however broken, gives a usable configuration or an error of one line."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sensai.cli import parse
from sensai.config import CONFIGS, EntryPoint, RetrainConfig, StageConfig, describe_errors, refusal
from sensai.config.arguments import as_yaml
from sensai.documents import parse_yaml
from sensai.errors import InputError
from tests.fuzz.inputs import EXAMPLES, LONGEST_MESSAGE, as_json, documents, fuzzed, only, scalars, short_texts, texts

stages = st.sampled_from(list(CONFIGS))
# Whoever asks for help gets it, and the process ends.
asks_for_help = ("-h", "--help", "--h", "--he", "--hel")


def _use(config: EntryPoint) -> None:
    """Store a configuration and read it again, in each of its forms."""
    kind = type(config)
    assert kind.model_validate(config.model_dump()) == config
    assert kind.model_validate_json(config.model_dump_json()) == config
    recipe = parse_yaml(as_yaml(config))
    if isinstance(config, StageConfig):
        assert kind.model_validate(recipe).fingerprint_parameters() == config.fingerprint_parameters()


@given(stages.flatmap(lambda stage: st.tuples(
    st.just(stage),
    st.dictionaries(st.sampled_from([*CONFIGS[stage].model_fields]), texts, max_size=4),
    st.booleans(),
    st.lists(short_texts, max_size=1),
)))  # fmt: skip
@fuzzed
def test_command_lines(call: tuple[str, dict[str, str], bool, list[str]]) -> None:
    stage, parameters, apart, more = call
    named = [
        part
        for name, value in parameters.items()
        for part in ([f"--{name}", value] if apart else [f"--{name}={value}"])
    ]
    arguments = [*named, *more]
    if not any(each.startswith(asks_for_help) for each in arguments):
        with only(InputError):
            _use(parse(stage, arguments))


# Each example tries all parameters of a stage, one by one and together.
@pytest.mark.parametrize("examples", [40, pytest.param(EXAMPLES, marks=pytest.mark.long)])
def test_every_parameter_at_once(examples: int) -> None:
    settings(fuzzed, max_examples=examples)(given(stages, st.data())(_use_every_parameter))()


def _use_every_parameter(stage: str, data: st.DataObject) -> None:
    config = CONFIGS[stage]
    given_values: dict[str, Any] = {name: data.draw(st.one_of(texts, scalars)) for name in config.model_fields}
    for some in (given_values, *({name: value} for name, value in given_values.items())):
        try:
            _use(config.model_validate(some))
        except ValidationError as error:
            message = describe_errors(error)
            assert "\n" not in message
            assert len(message) <= LONGEST_MESSAGE * len(some)


@given(st.sampled_from(list(RetrainConfig.model_fields)), documents("ratio", "random"))
@fuzzed
def test_values_of_a_space(name: str, value: Any) -> None:
    said = refusal(RetrainConfig, name, value)
    assert "\n" not in said
    assert len(said) <= LONGEST_MESSAGE


@given(st.one_of(texts, documents("block", "basic").map(lambda document: as_json(document).decode())))
@fuzzed
def test_arguments_of_networks(text: str) -> None:
    with only(InputError):
        _use(parse("baseline", [f"--arch_args={text}"]))
