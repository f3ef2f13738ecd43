"""JSON and YAML of users: refused content, and values in messages."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sensai.documents import is_text, parse_json, parse_yaml, read_text, render_yaml, shown
from sensai.errors import InputError

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
# Each list has ten aliases of the one before: a million million values when written out.
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 60_000, "nested more than 50 levels deep"),
        ("[" * 60 + "]" * 60, "nested more than 50 levels deep"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' stands twice"),
        ("9" * 5000, "4300 digits"),
        ("{", "[Ee]xpect"),
    ],
)
def test_both_refuse(text: str, said: str) -> None:
    for parse in (parse_json, parse_yaml):
        with pytest.raises(ValueError, match=said) as refused:
            parse(text)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("text", "said"), [("NaN", "nan is no number"), ("[1e400]", "inf is no number")])
def test_json_has_finite_numbers_only(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "has more than 1,000,000 values"),
        ("&a [*a]", "levels deep"),
        ("<<: {a: 1}", "'<<' is not supported"),
        ("!!python/object:os.system {}", "could not determine a constructor"),
        ("!!int ''", "index"),
        ("!!timestamp x", "groupdict"),
        ('"\\UFFFFFFFF"', "too large"),
    ],
)
def test_yaml_refuses(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        parse_yaml(text)
    assert "\n" not in str(refused.value)


@given(st.dictionaries(st.text(max_size=4), st.one_of(st.text(), st.integers(), st.booleans(), st.none(), NUMBERS)))
@example(
    {"a": "1e5", "b": "1.0e+16,0", "c": "null", "d": "2026-11-30", "e": "yes", "f": "0o7", "g": "\x85", "h": "1_000"}
)
def test_what_is_written_as_yaml_is_read_as_the_same(content: dict[str, object]) -> None:
    assert parse_yaml(render_yaml(content)) == content


def test_what_is_well_formed_is_read() -> None:
    assert parse_json('{"a": [1, 2.5, true, null, "x"]}') == {"a": [1, 2.5, True, None, "x"]}
    assert parse_json(b"[" * 40 + b"]" * 40)
    assert parse_yaml("a: &x [1, b]\nc: *x\n") == {"a": [1, "b"], "c": [1, "b"]}


def test_values_are_shown_briefly() -> None:
    assert shown("it's") == '"it\'s"'
    assert shown(0.5) == "0.5"
    for long in ("x" * 10**6, b"x" * 10**6, list(range(10**5)), 10**5000, dict.fromkeys(range(999), "y" * 999)):
        assert len(shown(long)) < 1000


def test_what_is_text() -> None:
    assert is_text("é\n😀")
    assert not is_text("a\0")
    assert not is_text(os.fsdecode(b"\xe9"))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"\xe9")
    (tmp_path / "large").write_bytes(b"x" * 11)
    for name, said in {
        "pipe": "this is a named pipe",
        ".": "this is a folder",
        "latin": "not text in UTF-8",
        "large": "has more than 10 bytes",
        "absent": "No such file",
        "x" * 300: "File name too long",
        "a\0": "null byte",
    }.items():
        with pytest.raises(InputError, match=said):
            read_text(tmp_path / name, "space", 10)
