"""Rules of ``model.labels``: values that are valid alone but do not fit together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpctrain.families.labels.section import CIRCULAR, CLASS, DENSITY, NAME_PATTERN
from hpctrain.kinds.leaks import name_gives_away

if TYPE_CHECKING:
    from hpctrain.families.labels.section import LabelSection
    from hpctrain.profile.judge import Judge

LABELS = "model.labels"


def check_labels(judge: Judge) -> None:
    """Report labels that are absent, share a name, or have keys of another kind."""
    labels: list[LabelSection] = judge.profile.model.labels
    if not labels:
        example = "labels: [{column: spectype, kind: class}]"
        judge.problem(f"is empty, so there is nothing to learn; write for example '{example}'", LABELS)
    owner: dict[str, int] = {}
    for number, label in enumerate(labels):
        where = f"{LABELS}.{number}"
        if label.title in owner:
            message = f"'{label.title}' is also the name of label {owner[label.title]}; give one of them another `name`"
            judge.problem(message, f"{where}.name" if label.name else f"{where}.column")
        elif label.name is None and not re.match(NAME_PATTERN, label.title):
            message = (
                f"'{label.title}' cannot be part of a column's name; set `name` to letters, digits and underscores"
            )
            judge.problem(message, f"{where}.column")
        owner.setdefault(label.title, number)
        _check_keys(judge, label, where)
    _check_inputs(judge)


def _check_inputs(judge: Judge) -> None:
    """Warn about inputs whose names say that they hold a label; ``hpctrain audit`` measures it.

    Families refuse the label itself as an input.
    """
    data, labels = judge.profile.data, judge.profile.model.labels
    features = getattr(data, "features", [])
    inputs = {name: f"data.features.{number}" for number, name in enumerate(features)}
    inputs |= {name: f"data.errors.{column}" for column, name in getattr(data, "errors", {}).items()}
    for name, where in inputs.items():
        reasons = (name_gives_away(name, label.column, label.kind, list(inputs)) for label in labels)
        reason = next((each for each in reasons if each is not None), None)
        accepted = {*judge.profile.validate.audit.allow, *(label.column for label in labels)}
        if reason is not None and name not in accepted:
            message = (
                f"'{name}' {reason}; what follows from the label is not known for new objects. Remove it, or accept it "
                "with validate.audit.allow; hpctrain audit measures how well it predicts the label"
            )
            judge.warn(message, where, LABELS)


def _check_keys(judge: Judge, label: LabelSection, where: str) -> None:
    for key, kinds in label.only_for.items():
        if label.kind not in kinds and getattr(label, key) != type(label).model_fields[key].default:
            judge.problem(f"is for kind {' or '.join(kinds)}, but this label is of kind {label.kind}", f"{where}.{key}")
    if label.calibration == "isotonic" and label.kind not in (CLASS, DENSITY):
        message = f"isotonic is for kind class or density, but this label is of kind {label.kind}; use temperature"
        judge.problem(message, f"{where}.calibration")
    if label.kind == CIRCULAR and label.period is None:
        judge.problem("needs a `period`, such as 360 for degrees", f"{where}.kind")
    if label.kind == CLASS and isinstance(label.class_weights, list):
        if label.classes is None:
            judge.problem("needs `classes`, so that it is clear which weight is whose", f"{where}.class_weights")
        elif len(label.class_weights) != len(label.classes):
            message = f"has {len(label.class_weights)} weights for {len(label.classes)} classes"
            judge.problem(message, f"{where}.class_weights", f"{where}.classes")
    if label.classes is not None and len(set(label.classes)) != len(label.classes):
        judge.problem("names a class twice", f"{where}.classes")
    if label.kind == DENSITY and label.range is not None:
        low, high = label.range
        if not low < high:
            judge.problem(f"[{low:g}, {high:g}] does not rise", f"{where}.range")
        elif label.spacing == "log1p" and low <= -1:
            judge.problem(f"begins at {low:g}, which has no ln(1 + value); begin above -1", f"{where}.range")
