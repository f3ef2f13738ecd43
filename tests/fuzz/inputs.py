"""Broken input of every kind, the same in every run, and the errors that readers may raise."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONGEST_MESSAGE = 4000
EXAMPLES = 200

# Of no use are a clock on a loaded machine, examples of earlier runs, and advice on how data are drawn.
fuzzed = settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)

ODD_TEXTS = [
    *("", " ", "\t", "\n", "\0", "a\0b", "\ud800", "\x1b[2J", "\u2028", "\u0661", "é", "x" * 300, "x" * 100_000, "/x" * 5000),
    *("9" * 400, "-" + "9" * 400, "9" * 5000, "1e308", "1e400", "-1e308", "1e-400", "nan", "inf", "-0", "0x10", "1_0", "²"),
    *("[" * 60_000, '{"a":' * 20_000, "{}", "[]", "null", "true", "-1", "0", "1", "1.5", "{", '{"a":1,"a":2}', '{"a":NaN}'),
    *(",", ",,", "=", "a=", "=a", "a=b=c", ":", "a:b", "a.py:b", "a:1", "[::1]:1", "auto", "cuda:1", "cuda:" + "9" * 30),
    *("1epochs", "1s", "9" * 30 + "s", ".s", "models:/x@y", "models:/", "../..", "-", "--", "--x", "'", '"', "%00", "a#b?c"),
    *("1," * 3000, "a=1," * 3000, ".," * 3000),
]  # fmt: skip

# Lone halves of characters included, as file names and JSON can have them.
short_texts = st.text(st.characters(exclude_categories=[]), max_size=20)
numbers = st.one_of(
    st.integers(-3, 12), st.integers(), st.floats(), st.sampled_from([10**30, -(10**400), 1e308, 2**31, 2**63, 0.5])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, short_texts)
texts = st.one_of(
    st.sampled_from(ODD_TEXTS),
    short_texts,
    scalars.map(str),
    st.lists(st.one_of(numbers.map(str), short_texts), max_size=6).map(",".join),
    st.dictionaries(short_texts, numbers, max_size=3).map(lambda pairs: ",".join(f"{k}={v}" for k, v in pairs.items())),
)


def documents(*words: str) -> st.SearchStrategy[Any]:
    """Generate JSON values with these words among the keys and the texts."""
    named = st.one_of(st.sampled_from(words), short_texts)
    return st.recursive(
        st.one_of(scalars, named),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(named, inner, max_size=4)),
        max_leaves=12,
    )


def as_json(document: Any) -> bytes:
    """Return the document as a file contains it, with NaN and halves of characters."""
    return json.dumps(document).encode()


@st.composite
def damaged(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """Generate the content whole, cut, extended, or with some bytes changed."""
    content = bytearray(draw(originals))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        piece = draw(
            st.one_of(st.binary(max_size=4), st.sampled_from([b"\xff" * 4, b"\0" * 8, b"\x7f\xff\xff\xff", b"["]))
        )
        match draw(st.sampled_from(["replace", "insert", "cut", "end"])):
            case "replace":
                content[place : place + len(piece)] = piece
            case "insert":
                content[place:place] = piece
            case "cut":
                del content[place : place + draw(st.integers(1, 64))]
            case "end":
                del content[place:]
    return bytes(content)


@contextmanager
def only(*documented: type[Exception]) -> Iterator[None]:
    """Allow only these errors from the block, each with one line that is not too long."""
    try:
        yield
    except documented as error:
        message = str(error)
        assert message
        assert "\n" not in message, message
        assert len(message) <= LONGEST_MESSAGE, message
