"""Every command that the documentation shows runs, or the table says why it does not."""

from __future__ import annotations

import os

import pytest
from shown import DOCS, pages, python_blocks, shown_commands
from tables import PAGES, RUN_BY_HAND, Page
from world import World

COMMANDS = {path.name: shown_commands(path) for path in pages()}
EVERYTHING = os.environ.get("ALL_FAULTS") == "1"


def reason(page: Page, command: str) -> str:
    """Return why a command does not run; empty if it does."""
    return next((why for start, why in {**RUN_BY_HAND, **page.not_run}.items() if command.startswith(start)), "")


def here(page: Page, words: list[str], world: World) -> list[str]:
    """Return the words of a command with what they are in the world of the page."""
    found = []
    for word in words:
        first = next((given for given in page.given if word == given or word.startswith(f"{given}/")), None)
        found.append(word if first is None else world.place(page.given[first]) + word.removeprefix(first))
    return found


def test_every_page_that_shows_a_command_has_an_entry():
    shows = {name for name, each in COMMANDS.items() if not all(reason(Page(), shown.command) for shown in each)}
    assert sorted(shows - PAGES.keys()) == []
    assert sorted(PAGES.keys() - shows) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_line_of_an_entry_is_about_a_command_of_the_page(name):
    page, commands = PAGES[name], COMMANDS[name]
    starts = [*page.codes, *page.not_run]
    assert [start for start in starts if not any(each.command.startswith(start) for each in commands)] == []
    words = {word for each in commands for part in each.parts for word in part}
    assert [
        given for given in page.given if not any(word == given or word.startswith(f"{given}/") for word in words)
    ] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if page.is_quick or EVERYTHING else pytest.mark.skip("set ALL_FAULTS=1"))
        for name, page in PAGES.items()
    ],
)
def test_the_commands_of_the_page_run_as_they_stand(name, make_world, monkeypatch):
    page = PAGES[name]
    world = make_world(page.world)
    monkeypatch.chdir(world.folder)
    for block in python_blocks(DOCS / name) if page.runs_python else ():
        exec(block, {})
    for shown in COMMANDS[name]:
        if reason(page, shown.command):
            continue
        code = next((code for start, code in page.codes.items() if shown.command.startswith(start)), 0)
        answer = "".join(world.type(here(page, words, world), code) for words in shown.parts)
        if page.is_exact:
            assert [line for line in shown.answer if line not in answer.splitlines()] == [], shown.command
