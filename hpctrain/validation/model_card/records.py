"""The parts of a model card that were recorded: the model, the data, the cost of the training, where it came from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hpctrain.drawing.scale import grouped
from hpctrain.families.shown import Column
from hpctrain.metrics.events import Finished, Started
from hpctrain.monitor.ledger import sum_up
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.data import SplitSection
from hpctrain.report.gather import RunFacts
from hpctrain.report.summary import price, running_seconds
from hpctrain.report.validation_file import ValidationFile
from hpctrain.validation.model_card.markdown import code, escaped, file_name, table
from hpctrain.words import format_bytes, format_duration

_OF_THE_TRUTH = (
    "TRUE", "TRUE_CODE", "RESIDUAL", "OUTLIER", "PULL", "PIT", "HPD", "CRPS", "LOG_LOSS", "NLL", "CDE_LOSS",
)  # fmt: skip
"""Ends of the names of columns that a prediction without truth does not have."""


_SPLIT = ("validation", "test", "salt", "by")
"""Keys of `data.split` that the card always has; others where they differ from their defaults."""


def model_lines(profile: Profile, facts: RunFacts, card: Mapping[str, Any], found: ValidationFile) -> list[str]:
    """Return what the model is."""
    started, finished = facts.history.newest(Started), facts.history.newest(Finished)
    rows = [("Family", code(found.family)), ("Kind of data", escaped(card.get("kind", "")))]
    labels = card["section"].get("labels") or []
    if labels:
        listed = ", ".join(f"{code(label.get('name') or label['column'])} ({label['kind']})" for label in labels)
        rows.append(("Learned", listed))
    if started is not None and started.num_parameters:
        rows.append(("Parameters", grouped(started.num_parameters)))
    rows.append(("Steps", grouped(facts.step)))
    if finished is not None:
        rows.append(("Finished", time.strftime("%Y-%m-%d", time.gmtime(finished.time_s))))
    if found.model_sha256:
        rows.append(("SHA-256", code(found.model_sha256)))
    card_section = profile.validate.card
    rows.append(("Authors", escaped(", ".join(card_section.authors)) or _not_given("authors")))
    rows.append(("Licence", escaped(card_section.licence or "") or _not_given("licence")))
    if card_section.citation:
        rows.append(("Please cite", escaped(card_section.citation)))
    return table(["", ""], rows)


def use_lines(profile: Profile) -> list[str]:
    """Return what the model is for, as the profile says."""
    card = profile.validate.card
    lines = [escaped(card.intended_use) if card.intended_use else _not_given("intended_use")]
    lines += ["", f"Not for: {escaped(card.not_for) if card.not_for else _not_given('not_for')}"]
    return lines


def _not_given(key: str) -> str:
    return f"not given ({code(f'validate.card.{key}')} of the profile)"


def output_lines(columns: Mapping[str, Column], predicted: list[str]) -> list[str]:
    """Return the columns of a prediction, as far as their meaning is known."""
    rows = [
        [code(name), escaped(columns[name].unit), escaped(columns[name].description)]
        for name in predicted
        if name in columns and not name.endswith(tuple(f"_{end}" for end in _OF_THE_TRUTH))
    ]
    return table(["column", "unit", "what it is"], rows)


def data_lines(profile: Profile, facts: RunFacts, card: Mapping[str, Any], found: ValidationFile) -> list[str]:
    """Return the data: files, numbers of samples, how they were divided."""
    files = [entry for entry in facts.provenance.get("data") or [] if isinstance(entry, dict) and entry.get("path")]
    files = files or [{"path": path} for path in profile.data.files]  # of a run that nobody submitted
    rows = [[file_name(entry["path"]), _size(entry), _fingerprint(entry)] for entry in files]
    lines = table(["file", "size", "checksums in the file (SHA-256)"], rows)
    data = facts.history.data
    numbers = []
    if data is not None and data.num_train:
        numbers.append(f"{grouped(data.num_train)} {facts.model.many} to train on")
    numbers.append(f"{grouped(found.num_rows)} held out to judge ({grouped(found.num_objects)} objects)")
    lines += ["", f"{'; '.join(numbers)}."]
    split = found.split if isinstance(found.split, dict) else {}
    defaults = SplitSection().model_dump(mode="json")
    shown = {key: value for key, value in split.items() if key in _SPLIT or value != defaults.get(key)}
    if shown:
        lines += ["", "How they were divided (`data.split`):", "", *table(["key", "value"], _pairs(shown))]
    own = card.get(card.get("kind"))
    if isinstance(own, dict) and own:
        kept = {key: value for key, value in own.items() if value not in (None, {}, [], False)}
        lines += ["", "How the model reads them:", "", *table(["key", "value"], _pairs(kept))]
    texts = [*(data.warnings or ()), *(data.notes or ())] if data is not None else []
    return [*lines, *(["", *(f"- {escaped(text)}" for text in texts)] if texts else [])]


def _pairs(values: Mapping[str, Any]) -> list[list[str]]:
    return [[code(key), code(value)] for key, value in values.items()]


def _size(entry: Mapping[str, Any]) -> str:
    return format_bytes(entry["bytes"]) if entry.get("bytes") else "–"


def _fingerprint(entry: Mapping[str, Any]) -> str:
    columns = entry.get("columns") if isinstance(entry.get("columns"), dict) else {}
    if not columns:
        return "none"
    listed = [f"{escaped(name)} {code(str(value)[:12])}" for name, value in columns.items()]
    return ", ".join([escaped(entry.get("hashes") or "–"), *listed])


def cost_lines(facts: RunFacts) -> list[str]:
    """Return what the training took."""
    last = facts.attempts[-1] if facts.attempts else None
    energy = sum_up(facts.ranks)
    rows = []
    if last is not None:
        rows.append(
            ("Device", escaped(f"{last.world_size} × {last.device}" if last.device else f"{last.world_size} ranks"))
        )
        rows.append(("Running time", f"{format_duration(running_seconds(facts.attempts))}, {price(facts)}"))
        rows.append(("Attempts", str(len(facts.attempts))))
    rows.append(("Energy", f"{energy.kwh:.3g} kWh" if energy.kwh is not None else "not measured on this machine"))
    return table(["", ""], rows)


def provenance_lines(facts: RunFacts) -> list[str]:
    """Return the versions that made the model, without names of users and machines."""
    known = facts.provenance
    rows = [("Run", code(f"{facts.run.name}/{facts.run.run_id}"))]
    for key in ("hpctrain", "python", "system"):
        if known.get(key):
            rows.append((key.capitalize() if key != "hpctrain" else key, escaped(known[key])))
    for key, title in (("code", "Code of hpctrain"), ("project", "Project")):
        git = known[key].get("git") if isinstance(known.get(key), dict) else None
        if isinstance(git, dict) and git.get("commit"):
            changed = ", with uncommitted changes" if git.get("dirty") else ""
            rows.append((title, f"{code(git['commit'])}{changed}"))
    packages = known.get("packages")
    if isinstance(packages, dict):
        rows.append(("Packages", escaped(", ".join(f"{name} {version}" for name, version in packages.items()))))
    return table(["", ""], rows)
