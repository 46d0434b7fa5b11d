"""Write a profile for a file of yours, by a few questions; the answers offered come from the file's own columns.

hpctrain new sdss.h5                                     ask: family, labels, GPUs, site
hpctrain new sdss.h5 --labels spectype --gpus 4 --yes    ask nothing; what is not given is as the questions offer it
hpctrain new sdss.h5 --json                              print what the file holds and which labels it offers

The kind of data (spectra, images, light curves, a table) is guessed from the file. The profile is checked as
hpctrain check does it, and is written also if the check finds problems, which are then yours to solve.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.present import as_typed

if TYPE_CHECKING:
    from hpctrain.families.proposal import Found, Wishes

_MOST_SHOWN = 12
_NONE = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain new``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="HDF5 file, or a table in FITS, CSV or Parquet")
    parser.add_argument("--name", help="name of the runs (default: that of the file)")
    parser.add_argument("--family", help="model family (default: one for the kind of data)")
    parser.add_argument("--labels", metavar="A,B", help="columns to learn; 'none' for a family without labels")
    parser.add_argument("--gpus", type=int, help="GPUs per node; 0 trains on CPUs (default: 0)")
    parser.add_argument("--nodes", type=int, default=1, help="number of nodes (default: 1)")
    parser.add_argument("--site", help="site file of the cluster, by its name")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="profile to write (default: NAME.yaml)")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    parser.add_argument("--json", action="store_true", help="only print what the file holds, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Ask, write the profile, check it."""
    from hpctrain.commands.check import print_findings
    from hpctrain.families.proposal import look_at, possible_labels, propose
    from hpctrain.files import NewFile
    from hpctrain.profile.check import check_profile

    found = look_at(arguments.file.expanduser())
    if arguments.json:
        offered = {"kind": found.kind, "objects": found.num_objects, "labels": possible_labels(found)}
        print(json.dumps(offered | {"columns": [column.name for column in found.columns]}, indent=2))
        return 0
    may_ask = not arguments.yes and sys.stdin.isatty()
    print(f"{as_typed(found.path)}: {found.num_objects:,} {_WORDS[found.kind]}")
    wishes = _wishes(arguments, found, may_ask)
    path = arguments.out or Path(f"{wishes.name}.yaml")
    if path.exists():
        raise ProfileError("command line", [Problem("--out", f"{path} exists and is not overwritten")])
    text = _as_yaml(propose(found, wishes), path)
    try:
        with NewFile(path, durable=False) as new:
            new.stream.write(text.encode())
    except OSError as error:
        raise ProfileError(
            "command line", [Problem("--out", f"{path}: cannot be written: {error.strerror}")]
        ) from error
    print(f"wrote {as_typed(path.absolute())}")
    findings = check_profile(path, memory=False)
    print_findings(findings)
    if findings.problems:
        return ProfileError.exit_code
    print(f"next: hpc-submit {as_typed(path.absolute())}")
    return 0


_WORDS = {"spectra": "spectra", "images": "images", "light_curves": "light curves", "catalogue": "objects in a table"}


def _wishes(arguments: argparse.Namespace, found: Found, may_ask: bool) -> Wishes:
    from hpctrain.families.proposal import FAMILIES_OF, WITHOUT_LABELS, Wishes, likely_labels, possible_labels

    offered = possible_labels(found)
    families = FAMILIES_OF[found.kind]
    wants_none = arguments.labels == _NONE or (arguments.labels is None and not likely_labels(found))
    default = families[-1] if wants_none or not offered else families[0]
    family = arguments.family or _ask(f"family ({', '.join(families)})", default, may_ask)
    labels: list[str] = []
    if family not in WITHOUT_LABELS:
        shown = [f"{name} ({how})" for name, how in list(offered.items())[:_MOST_SHOWN]]
        likely = likely_labels(found) or list(offered)[:1]
        question = f"labels to learn, of {', '.join(shown) or 'none'}"
        answer = arguments.labels if arguments.labels is not None else _ask(question, ",".join(likely), may_ask)
        labels = [name.strip() for name in answer.split(",") if name.strip() and name.strip() != _NONE]
        if not labels:
            message = f"{family} learns labels, and none is chosen; the file has {', '.join(offered) or 'none'}"
            raise ProfileError("command line", [Problem("--labels", message)])
    gpus = arguments.gpus if arguments.gpus is not None else _number("GPUs per node (0: CPUs)", 0, may_ask)
    name = arguments.name or re.sub(r"[^A-Za-z0-9_-]+", "-", found.path.name.partition(".")[0]).strip("-") or "new"
    return Wishes(name, family, labels, gpus, arguments.nodes, arguments.site or _site(may_ask))


def _site(may_ask: bool) -> str | None:
    from hpctrain.profile.site import list_sites

    sites = sorted(list_sites())
    if not may_ask or not sites:
        return None
    answer = _ask(f"site of the cluster ({', '.join(sites)}, or {_NONE})", _NONE, may_ask)
    return None if answer == _NONE else answer


def _ask(question: str, default: str, may_ask: bool) -> str:
    if not may_ask:
        return default
    print(f"{question} [{default}]: ", end="", flush=True)
    return sys.stdin.readline().strip() or default


def _number(question: str, default: int, may_ask: bool) -> int:
    answer = _ask(question, str(default), may_ask)
    if not answer.isdigit():
        raise ProfileError("command line", [Problem(question, f"'{answer}' is not a whole number")])
    return int(answer)


def _as_yaml(sections: dict[str, Any], path: Path) -> str:
    import yaml

    class _Lines(yaml.SafeDumper):
        """Sections as blocks, short lists in one line."""

    _Lines.add_representer(
        list, lambda dumper, values: dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)
    )
    lines = ("Made by hpctrain new. `hpctrain docs profile` explains every key.", "", f"    hpctrain check {path}")
    head = "".join(f"# {line}".rstrip() + "\n" for line in (*lines, f"    hpc-submit {path}"))
    parts = [
        yaml.dump({name: value}, Dumper=_Lines, sort_keys=False, allow_unicode=True, width=110)
        for name, value in sections.items()
    ]
    return "\n".join([head, *parts])
