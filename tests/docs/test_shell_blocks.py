"""Every shell block of the tutorials and how-to guides is run, or says why not."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.shell_blocks import RUN, Block, blocks_of, run_page

PAGES = sorted(path for folder in ("tutorials", "how_to") for path in (ROOT / "docs" / folder).glob("*.md"))
# Shell lines that are not run are fenced as these.
NOT_RUN = {"console", "text"}
OTHERS = {"python", "yaml", "json", "toml", "ini", "html", "dockerfile", "sql"}
SECONDS = 1800.0

pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT / "docs")))


@pages
def test_every_block_says_what_it_is(page: Path) -> None:
    wrong = [
        f"line {block.line}: {block.language or 'no language'}"
        for block in blocks_of(page.read_text(encoding="utf-8"))
        if block.language not in {RUN, *NOT_RUN, *OTHERS} and not block.language.startswith("{")
    ]
    assert not wrong


@pages
def test_what_is_not_run_says_why(page: Path) -> None:
    blocks = blocks_of(page.read_text(encoding="utf-8"))
    assert not [block.line for block in blocks if block.reason == ""]
    assert not [block.line for block in blocks if block.reason and block.language != RUN], "only bash blocks are run"


@pytest.mark.long
@pages
def test_the_blocks_run(page: Path, empty_database: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if not any(block.is_run for block in blocks_of(text)):
        pytest.skip("the page has no block that is run")
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    run_page(text, tmp_path, SECONDS)


def test_blocks_are_found_wherever_they_stand() -> None:
    text = "a\n```bash\none\n```\n% not run: needs a cluster\n```bash\ntwo\n```\n- b\n\n  ```bash\n  three\n    four\n  ```\n"
    text += "````{tab-set}\n```console\nfive\n```\n```bash\nsix\n```\n````\n:::{note}\nseven\n:::\n"
    assert blocks_of(text) == [
        Block(3, "bash", "one\n", None),
        Block(7, "bash", "two\n", "needs a cluster"),
        Block(12, "bash", "three\n  four\n", None),
        Block(17, "console", "five\n", None),
        Block(20, "bash", "six\n", None),
        Block(24, "{note}", "seven\n", None),
    ]


@pytest.mark.processes
def test_blocks_share_a_session_and_a_failing_one_is_named(tmp_path: Path) -> None:
    page = "```bash\nmkdir mine\ncd mine\nhere=$PWD\n```\n% not run: because\n```bash\nexit 3\n```\n```bash\necho $here\n```\n"
    assert f"{tmp_path}/mine\n" in run_page(page, tmp_path, 60)
    assert "sensai" in run_page("```bash\npython -c 'import sensai; print(sensai.__file__)'\n```\n", tmp_path, 60)
    for failing in ("false", "false | cat", "echo $nothing"):
        with pytest.raises(AssertionError, match=r"--- line 4\n(?!--- line 7)"):
            run_page(f"\n\n```bash\n{failing}\n```\n```bash\necho on\n```\n", tmp_path, 60)
    with pytest.raises(AssertionError, match=r"takes longer than 0\.5 s"):
        run_page("```bash\nsleep 30\n```\n", tmp_path, 0.5)
