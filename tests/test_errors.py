"""Long values in messages, for every kind of error."""

import pytest

from sensai.errors import InputError, described, shortened

HUGE = "x" * 100_000


@pytest.mark.parametrize("value", [HUGE, "a b " * 25_000, "it's \\ \" " * 10_000, "\n\t" * 50_000, "é" * 100_000])
def test_a_long_value_is_cut_and_the_rule_behind_it_stays(value: str) -> None:
    message = str(InputError(f"arch_args={value!r}: must be a JSON object, see 'README'"))
    assert message.startswith("arch_args=")
    assert message.endswith(": must be a JSON object, see 'README'")
    assert 200 < len(message) < 280
    assert "..." in message
    # The message may be wrapped once more.
    assert shortened(message) == message


def test_unquoted_words_and_whole_messages_are_cut_too() -> None:
    assert len(shortened(f"there is no file {HUGE}")) < 230
    long = shortened("first, " + "and so on, " * 10_000 + "last")
    assert len(long) <= 2000
    assert (long[:6], long[-4:]) == ("first,", "last")


def test_what_is_short_enough_stays() -> None:
    for message in ("ratio='2': must be less than 1", "x" * 200, f"'{'y' * 198}'", "it isn't the user's"):
        assert shortened(message) == message
    assert shortened("two\n  lines") == "two lines"


def test_errors_of_any_kind_are_described() -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert described(ValueError("broken")) == "ValueError: broken"
    assert described(KeyError()) == "KeyError"
    assert len(described(ValueError(HUGE))) < 230
    assert described(OddError()) == "OddError: (its message cannot be shown)"
