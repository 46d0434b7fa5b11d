"""The documentation as a site: pages made from the code are current, every page is reached, no network is needed."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import conf
import pytest
import reference_pages
from own_environment import own_environment

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
FROM_ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|link(?! rel=\"(?:next|prev|author)))\b[^>]*(?:src|href)=\"(?:https?:)?//[^>]*>"
)


@pytest.mark.parametrize("name", reference_pages.PAGES)
def test_the_page_says_what_the_code_says(name):
    """Make it with: python docs/reference_pages.py."""
    current = (DOCS / name).read_text(encoding="utf-8") == reference_pages.PAGES[name]()
    assert current, f"docs/{name} differs from the code; make it again: python docs/reference_pages.py"


def test_the_navigation_has_every_page_once():
    """It is the table in docs/index.md: a new page or notebook needs a row there."""
    listed = Counter(name for _, pages in conf.navigation() for name in pages)
    pages = [path.stem for path in DOCS.glob("*.md") if path.stem != conf.root_doc]
    assert listed == Counter([*pages, *(f"notebooks/{path.stem}" for path in DOCS.glob("notebooks/*.ipynb"))])


def test_no_page_has_a_name_that_the_builder_writes_itself():
    assert not {"search", "genindex", "modindex", "py-modindex"} & {path.stem for path in DOCS.glob("*.md")}


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="a minute of CPU; set ALL_FAULTS=1")
def test_the_site_is_built_without_a_warning_with_its_notebooks_run_by_jupyter_and_needs_no_network(tmp_path):
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    python = own_environment("docs", *setup["options.extras_require"]["docs"].split("\n")[1:])
    command = [
        str(python),
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        str(tmp_path / "cache"),
        "docs",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # a warning is an error
    assert "WARNING" not in done.stderr
    pages = [*tmp_path.glob("*.html"), *tmp_path.glob("notebooks/*.html")]
    assert {path.stem for path in DOCS.glob("*.md")} <= {path.stem for path in pages}
    loaded = {found for page in pages for found in FROM_ELSEWHERE.findall(page.read_text(encoding="utf-8"))}
    assert loaded == set()
    for name, num_figures in (("first-look", 5), ("what-a-run-tells", 2)):
        page = (tmp_path / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert len(re.findall(r"<img [^>]*src=\"\.\./_images/[0-9a-f]+\.png\"", page)) == num_figures
    assert "learning-rate-too-high" in page
    reference = (tmp_path / "python-reference.html").read_text(encoding="utf-8")
    assert {name for name in ("submit", "runs", "Run", "load") if f'id="hpctrain.{name}"' not in reference} == set()


def shown_messages(page: str) -> list[str]:
    """Return the messages in the first cells of a page: what is in back-ticks there."""
    return re.findall(r"^\| `([^`]+)` \|", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_every_message_of_the_troubleshooting_page_is_one_of_the_code():
    """An ellipsis stands for a value; the parts of a message follow each other in one text of the code."""
    sources = [*REPOSITORY.glob("hpctrain/**/*.py"), *REPOSITORY.glob("hpctrain/**/*.sh")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    code = re.sub(r"\"\s*\n\s*f?\"", "", code)  # neighbouring literals are one text
    shown = shown_messages("troubleshooting.md")
    unknown = [
        message for message in shown if not re.search(r"[^\"\n]*".join(map(re.escape, message.split("…"))), code)
    ]
    assert len(shown) > 20
    assert unknown == []


@pytest.mark.parametrize("page", ["migration.md", "troubleshooting.md"])
def test_every_key_of_the_profile_that_is_shown_exists(page):
    profile = (DOCS / "profile.md").read_text(encoding="utf-8")  # made from the classes
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", profile, flags=re.MULTILINE | re.DOTALL))
    names = "|".join(name for name in sections if "." not in name)
    shown = re.findall(rf"(?<![\w./])({names})\.([a-z_]+)", (DOCS / page).read_text(encoding="utf-8"))
    keys = {f"{section}.{key}": f"| `{key}` |" in sections[section] for section, key in shown if key != "md"}
    assert len(keys) > 10
    assert [key for key, is_there in keys.items() if not is_there and key not in sections] == []
