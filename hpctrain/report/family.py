"""Find the model family of a run, and ask it for its part of the report. What fails becomes a caveat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hpctrain.families.family import Family, Objective
from hpctrain.families.result_files import Arrays, UnusableResultsError
from hpctrain.families.shown import Card, Curve, Panel
from hpctrain.kinds.kind import Kind, Words
from hpctrain.metrics.read import History
from hpctrain.plugins import DEFAULT_FAMILY, PluginError
from hpctrain.profile.lookup import find_family, find_kind
from hpctrain.profile.reading import MAX_BYTES
from hpctrain.profile.yaml_text import parse_yaml
from hpctrain.records import Record, is_number
from hpctrain.report.text import error_text

Answer = TypeVar("Answer")


_ATTRIBUTES: Mapping[type, Mapping[str, type]] = {
    Family: {"name": str, "kind": str, "objective": Objective, "loss": Curve, "against_overfitting": str},
    Kind: {"words": Words, "main_columns": tuple},
}
"""Attributes of a family and of a kind that the page uses, and their types."""


class _WrongAnswerError(Exception):
    """A function of a family returned another type than the contract says."""


@dataclass
class ModelFacts:
    """What the family and the kind of data of a run say about it.

    Parameters
    ----------
    family : Family
        The family of the run; if it is not installed, one that has only what all families share.
    kind : Kind
        Its kind of data, likewise.
    problems : list of str
        Why parts of the report are missing.
    results : dict of str to arrays
        The files of ``results/`` that the panels need or want, by name.
    curves : list of Curve
        Figures beside the loss.
    panels : list of Panel
    """

    family: Family
    kind: Kind
    problems: list[str] = field(default_factory=list)
    results: dict[str, Arrays] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)

    @property
    def one(self) -> str:
        """What users call a sample."""
        return self.kind.words.one

    @property
    def many(self) -> str:
        """What users call samples."""
        return self.kind.words.many

    @property
    def noun(self) -> str:
        """What learns, in a word."""
        return "network" if self.family.how == "gradient" else "model"

    def ask(self, what: str, call: Callable[[], Answer], default: Answer) -> Answer:
        """Return the answer of a function of the family; if it fails, note this and return `default`."""
        try:
            return call()
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, _WrongAnswerError) else error_text(error)
            self.problems.append(f"The family '{self.family.name}' cannot show {what}: {reason}.")
            return default


def ask_family(profile_text: str, history: History, results: Path, unreadable: list[str]) -> ModelFacts:
    """Find the family of a run, and read the files that its panels need.

    Parameters
    ----------
    profile_text : str
        Text of the profile; it may be empty or damaged.
    history : History
    results : Path
        The folder ``results/``.
    unreadable : list of str
        Gets the files that cannot be read, with the reasons.
    """
    facts = _found(profile_text)
    facts.panels = facts.ask("its panels", lambda: _all(Panel, facts.family.panels()), [])
    facts.curves = facts.ask("its curves", lambda: _all(Curve, facts.family.curves()), [])
    facts.curves += _others(history, facts)
    needed = [name for panel in facts.panels for name in panel.needs]
    wanted = [name for panel in facts.panels for name in panel.wants]
    for name in dict.fromkeys([*needed, *wanted]):
        arrays = _read(facts.family, results / name, unreadable)
        if arrays is not None:
            facts.results[name] = arrays
    return facts


def draw_panels(facts: ModelFacts) -> list[tuple[str, str, str]]:
    """Return key, title and HTML of each panel whose files are there; note those that cannot be drawn."""
    sections = []
    for panel in facts.panels:
        if all(name in facts.results for name in panel.needs):
            files = {name: facts.results[name] for name in (*panel.needs, *panel.wants) if name in facts.results}
            html = facts.ask(f"the panel '{panel.title}'", lambda draw=panel.draw, files=files: _text(draw(files)), "")
            sections.append((panel.key, panel.title, html))
    return sections


def own_cards(facts: ModelFacts, evaluation: Record, held_out: str) -> list[Card]:
    """Return the family's own key numbers."""
    return facts.ask("its key numbers", lambda: _all(Card, facts.family.cards(evaluation, held_out, facts.results)), [])


def fit_sentence(facts: ModelFacts, evaluation: Record, held_out: str) -> str:
    """Return the family's sentence about the last evaluation."""
    results = facts.results
    return facts.ask("the result", lambda: _text(facts.family.fit_sentence(evaluation, held_out, results)), "")


def own_caveats(facts: ModelFacts, history: History) -> list[str]:
    """Return what the kind of data and the family want a reader to know."""
    of_kind = facts.ask("caveats of its data", lambda: _all(str, facts.kind.caveats(history)), [])
    return of_kind + facts.ask("its caveats", lambda: _all(str, facts.family.caveats(history, facts.results)), [])


def _found(profile_text: str) -> ModelFacts:
    """Return the family and the kind that a profile names, or those that have only what all share."""
    name, problem = _name_in(profile_text)
    facts = ModelFacts(_Shared(name or "unknown"), Kind(), [problem] if problem else [])
    if name is None:
        return facts
    try:
        facts.family = _checked(find_family(name), Family, "FAMILY")
    except (PluginError, SystemExit) as error:
        facts.problems.append(
            f"The model family '{name}' cannot be used here, so the report shows only what all families share: "
            f"{str(error) or 'its module ends Python'}."
        )
        return facts
    try:
        facts.kind = _checked(find_kind(facts.family.kind), Kind, "KIND")
    except (PluginError, SystemExit) as error:
        reason = str(error) or "its module ends Python"
        facts.problems.append(f"The kind of data '{facts.family.kind}' cannot be used here: {reason}.")
    return facts


def _checked(found: Any, base: type[Answer], attribute: str) -> Answer:
    """Return what a module defines, if the page can use it."""
    if not isinstance(found, base):
        raise PluginError(f"its {attribute} is not an instance of a subclass of {base.__module__}.{base.__name__}")
    for name, kind in _ATTRIBUTES[base].items():
        if not isinstance(getattr(found, name, None), kind):
            raise PluginError(f"its {attribute} has no attribute '{name}' of type {kind.__name__}")
    return found


def _name_in(profile_text: str) -> tuple[str | None, str]:
    """Return the family that the text of a profile names; if it names none, None and the reason."""
    document = parse_yaml(profile_text if len(profile_text) <= MAX_BYTES else "", "profile.yaml")
    if not document.data:
        reason = "is damaged" if profile_text else "is empty or absent"
        return None, f"Profile.yaml {reason}, so the report shows only what all model families share."
    section = document.data.get("model")
    name = section.get("family", DEFAULT_FAMILY) if isinstance(section, Mapping) else DEFAULT_FAMILY
    if isinstance(name, str):
        return name, ""
    return None, f"Profile.yaml has the model.family {name!r}; the report shows only what all model families share."


class _Shared(Family):
    """What all families share, for a run whose own family cannot be found here."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]


def _others(history: History, facts: ModelFacts) -> list[Curve]:
    """Return a curve for every number of the evaluation records that the family does not mention."""
    known = {"loss", "step", "time", "attempt", "seconds", *(curve.metric for curve in facts.curves)}
    names = dict.fromkeys(name for record in history.evaluations for name, value in record.items() if is_number(value))
    found = [name for name in names if name not in known and not name.startswith("num_")]
    return [Curve(name, name.replace("_", " ").capitalize()) for name in found]


def _read(family: Family, path: Path, unreadable: list[str]) -> Arrays | None:
    """Read a file of results, for which a library may raise any exception on a damaged file; None if it is absent."""
    try:
        return family.read_results(path)
    except FileNotFoundError:
        return None
    except UnusableResultsError as error:
        unreadable.append(f"results/{path.name} {error}")
    except (Exception, SystemExit) as error:
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
        unreadable.append(f"results/{path.name} cannot be read: {reason}")
    return None


def _all(kind: type[Answer], values: Any) -> list[Answer]:
    """Return values as a list, if all have this type."""
    found = list(values)
    for value in found:
        if not isinstance(value, kind):
            raise _WrongAnswerError(f"it returned {type(value).__name__} where {kind.__name__} is expected")
    return found


def _text(value: Any) -> str:
    return _all(str, [value])[0]
