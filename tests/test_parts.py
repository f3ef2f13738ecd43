"""Parts are found by name, are given what they name and nothing else, and may come from other packages."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sensai.errors import InputError
from sensai.parts import Family, Part

PART = """
from sizes import SIZES

@SIZES.register({name!r}, "help of {name}")
def part({takes}):
    return ({takes})
"""


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """A family with two parts of its own, and two that other packages add, of which one cannot be imported."""
    package = tmp_path / "site" / "sizes"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from sensai.parts import Family\nSIZES = Family('size', __name__, 'sensai.test_sizes', ('width', 'height'))\n"
    )
    (package / "wide.py").write_text(PART.format(name="wide", takes="width"))
    (package / "both.py").write_text(PART.format(name="both", takes="width, height"))
    (tmp_path / "site" / "foreign_size.py").write_text(PART.format(name="foreign", takes="height"))
    (tmp_path / "site" / "broken_size.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "site" / "silent_size.py").write_text("")
    metadata = tmp_path / "site" / "foreign-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[sensai.test_sizes]\nforeign = foreign_size\nbroken = broken_size\nsilent = silent_size\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    before = set(sys.modules)
    import sizes

    yield sizes.SIZES
    for name in set(sys.modules) - before:
        del sys.modules[name]


class Inputs(SimpleNamespace):
    @property
    def height(self) -> int:
        raise AssertionError("nobody asked for it")


def test_all_parts_are_listed_without_importing_other_packages(family: Family) -> None:
    assert family.names == ("both", "broken", "foreign", "silent", "wide")
    assert "foreign_size" not in sys.modules
    assert family.help == "both: help of both; wide: help of wide"


def test_a_part_is_given_what_it_names_and_nothing_else_is_computed(family: Family) -> None:
    assert family["wide"].uses == {"width"}
    assert family["wide"](Inputs(width=3)) == 3
    assert family["both"](SimpleNamespace(width=3, height=4)) == (3, 4)


def test_a_part_of_another_package_is_imported_when_it_is_asked_for(family: Family) -> None:
    assert family["foreign"](SimpleNamespace(height=4)) == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wider", r"'wider' is no size; did you mean wide\?"),
        ("broken", r"size 'broken': importing broken_size of foreign failed \(ModuleNotFoundError"),
        ("silent", "size 'silent': silent_size of foreign registers no such part"),
    ],
)
def test_what_is_not_there_is_named(family: Family, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        family[name]


def test_a_part_that_takes_what_there_is_not_is_refused(family: Family) -> None:
    with pytest.raises(TypeError, match="size 'deep' takes depth; allowed are height, width"):
        family.register("deep", "")(lambda depth: depth)
    assert "wide" in family
    with pytest.raises(TypeError, match="there is a size 'wide' already"):
        family.register("wide", "")(lambda width: width)


def test_a_part_declares_traits_of_its_family() -> None:
    family = Family("size", "sizes", "sensai.test_sizes", ("width",), traits=("tall",))
    with pytest.raises(TypeError, match="size 'low' declares wide; allowed are tall"):
        family.register("low", "", wide=True)
    assert Part("high", "", len, frozenset({"tall"})).traits == {"tall"}


@pytest.mark.processes
@pytest.mark.parametrize(
    "package", ["grouping.methods", "policy.criteria", "training.losses", "training.stop_rules", "training.schedules"]
)
def test_own_parts_are_imported_without_torch(package: str) -> None:
    code = (
        f"import sys, sensai.{package} as package; from sensai.parts import Family\n"
        "(family,) = (each for each in vars(package).values() if isinstance(each, Family))\n"
        "assert family.names; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
