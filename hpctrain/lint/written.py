"""Findings as text for people, as JSON for programs, as SARIF for code scanning."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hpctrain import __version__
from hpctrain.lint.rule import RULES, Finding, Rule

Findings = Mapping[Path, Sequence[Finding]]
SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def as_text(found: Findings) -> str:
    """Return one paragraph per finding, and a line with the numbers.

    Parameters
    ----------
    found : mapping of Path to sequence of Finding
        The findings of each file.
    """
    rows = []
    explained: set[str] = set()
    for path, findings in found.items():
        for each in findings:
            rows.append(f"{path}:{each.line}: {each.rule.level}: {each.found} [{each.rule.name}]")
            if each.rule.name not in explained:  # once is enough
                explained.add(each.rule.name)
                rows += _indented("why", each.rule.why) + _indented("fix", each.rule.fix)
    return "\n".join([*rows, summary(found)])


def _indented(word: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, 110, initial_indent=f"    {word}: ", subsequent_indent="         ", break_on_hyphens=False
    )


def summary(found: Findings) -> str:
    """Return one line with the numbers of files and findings.

    Parameters
    ----------
    found : mapping of Path to sequence of Finding
    """
    levels = [each.rule.level for findings in found.values() for each in findings]
    files = f"{len(found)} file{'s' * (len(found) != 1)}"
    if not levels:
        return f"{files}: no findings"
    counts = [
        f"{count} {level}{'s' * (count != 1)}"
        for level in ("error", "warning", "note")
        if (count := levels.count(level))
    ]
    return f"{files}: {', '.join(counts)}"


def as_json(found: Findings) -> list[dict[str, Any]]:
    """Return one dictionary per finding.

    Parameters
    ----------
    found : mapping of Path to sequence of Finding
    """
    return [
        {
            "file": str(path),
            "line": each.line,
            "rule": each.rule.name,
            "level": each.rule.level,
            "found": each.found,
            "why": each.rule.why,
            "fix": each.rule.fix,
        }
        for path, findings in found.items()
        for each in findings
    ]


def as_sarif(found: Findings) -> dict[str, Any]:
    """Return a log of SARIF 2.1.0, which GitHub and GitLab show beside the lines.

    Parameters
    ----------
    found : mapping of Path to sequence of Finding

    References
    ----------
    OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0.
    """
    places = {name: place for place, name in enumerate(RULES)}
    results = [_result(path, each, places) for path, findings in found.items() for each in findings]
    driver = {
        "name": "hpctrain lint",
        "semanticVersion": __version__,
        "informationUri": "https://slurm.schedmd.com/sbatch.html",
        "rules": [_descriptor(rule) for rule in RULES.values()],
    }
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _descriptor(rule: Rule) -> dict[str, Any]:
    help_text = f"{rule.why}\n\nFix: {rule.fix}"
    severity = {"error": "error", "warning": "warning", "note": "recommendation"}[rule.level]
    return {
        "id": rule.name,
        "name": "".join(part.capitalize() for part in rule.name.split("-")),
        "shortDescription": {"text": rule.what},
        "fullDescription": {"text": rule.why},
        "help": {"text": help_text, "markdown": help_text},
        "defaultConfiguration": {"level": rule.level},
        "properties": {"problem.severity": severity, "precision": "high", "tags": ["slurm"]},
    }


def _result(path: Path, each: Finding, places: Mapping[str, int]) -> dict[str, Any]:
    region = {"startLine": each.line}
    location = {"physicalLocation": {"artifactLocation": {"uri": _uri(path)}, "region": region}}
    return {
        "ruleId": each.rule.name,
        "ruleIndex": places[each.rule.name],
        "level": each.rule.level,
        "message": {"text": f"{each.found}. {each.rule.fix}"},
        "locations": [location],
    }


def _uri(path: Path) -> str:
    """Return a path relative to the current folder, which GitHub takes for that of the repository, else a file URI."""
    absolute = Path(os.path.abspath(path))
    if absolute.is_relative_to(Path.cwd()):
        return quote(absolute.relative_to(Path.cwd()).as_posix())
    return absolute.as_uri()
