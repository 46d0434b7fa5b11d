"""What an autopsy says: as plain values, and as text for a terminal."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hpctrain.rehearsal.layers import Layer, first_bad

if TYPE_CHECKING:
    from hpctrain.rehearsal.autopsy import Autopsy
    from hpctrain.rehearsal.objects import Object
    from hpctrain.rehearsal.replay import Point

LISTED = 6
"""Number of objects and layers that the text names."""


def to_json(found: Autopsy) -> dict[str, Any]:
    """Return everything as plain values; numbers that are not finite are text, such as ``nan``."""
    forwards, backwards = first_bad(found.layers)
    values = {
        "run": str(found.run.path),
        "step": found.chosen.step,
        "why": found.chosen.why,
        "from_checkpoint": found.checkpoint,
        "device": found.device,
        "learning_rate": found.learning_rate,
        "agreement": {**asdict(found.agreement), "is_good": found.agreement.is_good},
        "possible_differences": found.doubts,
        "verdict": verdict(found),
        "culprits": list(dict.fromkeys(item.target_id for item in found.culprits)),
        "objects": [_object_json(item) for item in found.objects],
        "first_layer_not_finite": forwards.name if forwards else None,
        "first_gradient_not_finite": backwards.name if backwards else None,
        "layers": [asdict(layer) for layer in found.layers],
        "replayed": [_point_json(point) for point in found.points],
        "left_out": found.left_out,
        "curves": {name: [_point_json(point) for point in points] for name, points in found.curves.items()},
    }
    return _plain(values)


def _object_json(item: Object) -> dict[str, Any]:
    names = ("target_id", "row", "micro", "file", "row_of_file", "loss", "weight", "gradient_norm", "loss_share")
    names += ("gradient_share", "stands_out", "labels")
    return {name: getattr(item, name) for name in names} | {"carriers": [asdict(place) for place in item.carriers]}


def _point_json(point: Point) -> dict[str, Any]:
    return {**asdict(point), "difference": point.difference}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def number(value: float | None) -> str:
    """Return a number with three digits; a dash for none."""
    return "–" if value is None else f"{value:.3g}"


def percent(value: float | None) -> str:
    """Return a share in percent; a dash for none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def verdict(found: Autopsy) -> list[str]:
    """Return what was found, in sentences."""
    one, many = found.words
    # A batch that spans two epochs may hold an object twice.
    reasons = {item.target_id: item.stands_out for item in reversed(found.culprits)}
    culprits, sentences = list(reasons)[::-1], []
    if culprits:
        listed = ", ".join(map(str, culprits[:LISTED]))
        more = f" and {len(culprits) - LISTED} more" if len(culprits) > LISTED else ""
        subject = f"The {one}" if len(culprits) == 1 else f"The {len(culprits)} {many}"
        verb = "stands" if len(culprits) == 1 else "stand"
        sentences.append(f"{subject} with target_id {listed}{more} {verb} out of {len(found.objects)}.")
        sentences += [f"{target}: {reasons[target]}." for target in culprits[:LISTED]]
    else:
        sentences.append(f"No {one} stands out of {len(found.objects)}.")
        if found.chosen.is_trouble:
            sentences.append(
                f"So the step as a whole did it: lower train.learning_rate ({found.learning_rate:.3g} in this step) or "
                "train.clip_norm, or warm up longer."
            )
    forwards, backwards = first_bad(found.layers)
    if forwards is not None:
        sentences.append(f"The first layer whose output is not finite is {_layer_name(forwards)}.")
    elif found.point.loss is not None and not math.isfinite(found.point.loss):
        sentences.append("The outputs of all layers are finite: the loss itself overflows.")
    if backwards is not None:
        sentences.append(f"The first gradient that is not finite, going back, is that of {_layer_name(backwards)}.")
    return sentences


def _layer_name(layer: Layer) -> str:
    return f"{layer.name or 'the network itself'} ({layer.kind or 'weights'})"


def by_interest(layers: list[Layer]) -> list[Layer]:
    """Return the layers, those that are not finite first, then by relative update and largest activation."""
    ordered = sorted(layers, key=lambda layer: layer.largest_activation, reverse=True)
    return sorted(ordered, key=lambda layer: (layer.is_bad, _relative(layer)), reverse=True)


def _relative(layer: Layer) -> float:
    return layer.update_norm / layer.weight_norm if layer.weight_norm else 0.0


def text(found: Autopsy) -> list[str]:
    """Return lines for a terminal of 80 columns."""
    start = f"checkpoint {found.checkpoint}" if found.checkpoint is not None else "the start of the run"
    point = found.point
    lines = [
        f"Step {found.chosen.step} of {found.run.name}: {found.chosen.why}",
        f"Replayed from {start} on {found.device}: loss {number(point.loss)}, "
        f"gradient norm {number(point.gradient_norm)}",
        found.agreement.describe(),
    ]
    if not found.agreement.is_good or found.agreement.largest:
        lines += [f"  possible reason: {doubt}" for doubt in found.doubts]
    lines += ["", *verdict(found), "", *_objects(found), "", *_layers(found)]
    if found.curves:
        lines += ["", *curves_text(found)]
    return lines


def _objects(found: Autopsy) -> list[str]:
    lines = [f"{'target_id':>20} {'loss':>10} {'share':>8} {'gradient':>10} {'share':>8}  row"]
    for item in found.objects[:LISTED]:
        lines.append(
            f"{item.target_id:>20} {number(item.loss):>10} {percent(item.loss_share):>8} "
            f"{number(item.gradient_norm):>10} {percent(item.gradient_share):>8}  {item.row_of_file}"
        )
        if item.stands_out:
            lines.append(f"    {item.file}: row {item.row_of_file}")
            lines += [f"    {place.describe(found.coordinate)}" for place in item.carriers[:3]]
            lines += [f"    label {line}" for line in labels_text(item)]
    return lines


def labels_text(item: Object) -> list[str]:
    """Return a line for each label of an object."""
    lines = []
    for name, label in item.labels.items():
        height = label["height"]
        note = "" if height is None else f" ({height:.3g} σ from the median of the batch)"
        lines.append(f"{name} {number(label['value'])}{note}")
    return lines


def _layers(found: Autopsy) -> list[str]:
    lines = [f"{'layer':<36} {'largest':>10} {'not finite':>10} {'gradient':>9} {'update':>10}"]
    for layer in by_interest(found.layers)[:LISTED]:
        bad = layer.bad_activations + layer.bad_gradients + layer.bad_weight_gradients
        name = layer.name if len(layer.name) <= 36 else f"…{layer.name[-35:]}"
        lines.append(
            f"{name:<36} {number(layer.largest_activation):>10} {bad:>10} {percent(layer.gradient_share):>9} "
            f"{_relative(layer):>10.2g}"
        )
    return lines


def curves_text(found: Autopsy) -> list[str]:
    """Return lines that compare the replays with and without some objects."""
    lines = []
    for name in ("with", "without"):
        points = found.curves[name]
        losses = [p.loss for p in points if p.loss is not None and math.isfinite(p.loss)]
        if not points or not losses:
            lines.append(f"{name} them: no finite loss")
            continue
        last = points[-1]
        end = f"loss {number(last.loss)} at step {last.step}"
        lines.append(f"{name + ' them:':<14} {end}, largest {max(losses):.3g}, smallest {min(losses):.3g}")
    return [f"Without target_id {', '.join(map(str, found.left_out))}, from the same checkpoint:", *lines]
