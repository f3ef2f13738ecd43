"""Parts are found by name, get only the inputs that they name, and may come from other packages."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sensai.errors import InputError
from sensai.parts import Family

PART = """
from sizes import SIZES

@SIZES.register({name!r}, "help of {name}")
def part({takes}):
    return ({takes})
"""

# Package -> its family.
FAMILIES = {
    "sensai.data.sets": "DATASETS",
    "sensai.models.architectures": "ARCHITECTURES",
    "sensai.policy.criteria": "CRITERIA",
    "sensai.grouping.methods": "METHODS",
    "sensai.ensemble.combiners": "COMBINERS",
    "sensai.runtimes.implementations": "RUNTIMES",
    "sensai.training.losses": "LOSSES",
    "sensai.training.schedules": "SCHEDULES",
    "sensai.training.stop_rules": "STOP_RULES",
}


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """Return a family with two parts of its own and two of other packages, one of which cannot be imported."""
    package = tmp_path / "site" / "sizes"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from sensai.parts import Family\n"
        "SIZES = Family('size', __name__, 'sensai.test_sizes', ('width', 'height'), {'even': True})\n"
    )
    (package / "wide.py").write_text(PART.format(name="wide", takes="width"))
    (package / "both.py").write_text(
        PART.format(name="both", takes="width, height").replace('help of both"', 'help of both", even=False')
    )
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


def test_a_part_has_the_traits_that_it_declares_and_the_defaults_of_the_others(family: Family) -> None:
    assert family["both"].traits == {"even": False}
    assert family["wide"].traits == {"even": True}
    with pytest.raises(TypeError, match="size 'odd' declares evn; allowed are even"):
        family.register("odd", "", evn=False)(lambda width: width)
    assert "odd" not in family


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


@pytest.mark.processes
def test_the_names_of_all_families_are_known_before_anything_heavy_is_imported() -> None:
    listed = [f"from {module} import {family}; {family}.help" for module, family in FAMILIES.items()]
    heavy = "sorted({'torch', 'torchvision', 'onnx', 'onnxruntime'} & set(sys.modules))"
    code = "\n".join(["import sys", *listed, f"print({heavy})"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
