"""Read the documentation in the terminal, without a network: the pages of this version of hpctrain.

hpctrain docs                  list the pages
hpctrain docs profile          read a page; on a terminal in your pager, else as Markdown
hpctrain docs --find NCCL      the lines of all pages with these words, with page and line
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.shipped import shipped

_ROW = re.compile(
    r"\| (?:\*\*(?P<group>.+)\*\* \||\[(?P<title>[^\]]+)\]\((?P<page>[a-z-]+)\.md\) \| (?P<covers>.+)) \|"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain docs``."""
    parser.add_argument("page", nargs="?", metavar="PAGE", help="name of a page; without it, list the pages")
    parser.add_argument("--find", metavar="WORDS", help="print the lines with these words, in any case of letters")


def run(args: argparse.Namespace) -> int:
    """List the pages, print one, or look for words."""
    pages = {path.stem: path for path in sorted(shipped("docs").glob("*.md"))}
    if args.find is not None:
        return _find(args.find, pages)
    if args.page is None:
        print(_contents(pages["index"].read_text(encoding="utf-8")))
        return 0
    # A text may name a page as docs/profile.md#train, or as profile.md.
    name = args.page.partition("#")[0].rpartition("/")[2].removesuffix(".md")
    if name not in pages:
        from hpctrain.profile.near import did_you_mean

        near = did_you_mean(name, pages)
        message = f"there is no page '{name}'{near if 'did you mean' in near else ''} (hpctrain docs lists the pages)"
        raise ProfileError("hpctrain docs", [Problem("PAGE", message)])
    text = pages[name].read_text(encoding="utf-8")
    if not sys.stdout.isatty():
        print(text, end="")
        return 0
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.pager(styles=True):
        console.print(Markdown(text, hyperlinks=False))
    return 0


def _contents(index: str) -> str:
    """Return the names of the pages and what they cover, in the order of the first page."""
    rows = [found for line in index.splitlines() if (found := _ROW.match(line))]
    width = max(len(row["page"]) for row in rows if row["page"])
    lines = []
    for row in rows:
        covers = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", row["covers"] or "")
        lines.append(f"\n{row['group']}" if row["group"] else f"  {row['page']:<{width}}  {covers}")
    return "\n".join([*lines, "", "hpctrain docs PAGE shows one of them."]).lstrip("\n")


def _find(words: str, pages: dict[str, Path]) -> int:
    num_found = 0
    for name, path in pages.items():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if words.casefold() in line.casefold():
                print(f"{name}:{number}: {line.strip()}")
                num_found += 1
    if not num_found:
        print(f"no page has '{words}'")
    return 0
