"""The page of an autopsy: one self-contained HTML file."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from hpctrain.drawing.table import table
from hpctrain.rehearsal.draw import curves_figure, object_figure
from hpctrain.rehearsal.objects import SHOWN
from hpctrain.rehearsal.told import by_interest, curves_text, labels_text, number, percent, verdict
from hpctrain.report.document import Head, moment, render_document

if TYPE_CHECKING:
    from hpctrain.rehearsal.autopsy import Autopsy
    from hpctrain.rehearsal.objects import Object
    from hpctrain.rehearsal.replay import Point

_TABLED = 12
"""Number of objects and layers in a table of the page; the JSON file has all."""


def render(found: Autopsy) -> str:
    """Return the page as HTML."""
    head = Head(
        kind="Autopsy of a training step",
        name=f"{escape(found.run.name)}, step {found.chosen.step}",
        place=escape(str(found.run.path)),
        sentence=escape(verdict(found)[0]),
        description=escape(f"Why this step: {found.chosen.why}."),
    )
    many = found.words[1]
    sections = [
        ("verdict", "What was found", _paragraphs(verdict(found)[1:])),
        ("objects", f"The {many} of the step", _objects(found)),
        ("drawn", f"The first {min(SHOWN, len(found.objects))} {many}", _drawn(found)),
        ("report", "The same as the report draws them", found.panel),
        ("layers", "Layers", _layers(found)),
        ("without", "Without them", _without(found)),
        ("replay", "The replay", _replay(found)),
    ]
    return render_document(head, sections, moment(time.time()))


def _paragraphs(sentences: Sequence[str]) -> str:
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def _objects(found: Autopsy) -> str:
    heads = ["target_id", "loss", "share of loss", "gradient norm", "share of gradient", "file and row", "why"]
    rows = [
        [
            str(item.target_id),
            number(item.loss),
            percent(item.loss_share),
            number(item.gradient_norm),
            percent(item.gradient_share),
            f"{escape(item.file)}: {item.row_of_file}",
            escape(item.stands_out) or "–",
        ]
        for item in found.objects[:_TABLED]
    ]
    note = (
        "Each was computed alone, with the weights from before the step and its own augmentation of the step. Dropout "
        "and other draws inside the network differ from those in the batch. Shares are those of absolute losses and of "
        "gradient norms of the whole batch."
    )
    return f'{table(heads, rows)}<p class="note">{note}</p>'


def _drawn(found: Autopsy) -> str:
    return "".join(_figure(item, found.coordinate) for item in found.objects[:SHOWN])


def _figure(item: Object, coordinate: str | None) -> str:
    lines = [place.describe(coordinate) for place in item.carriers] + [f"label {line}" for line in labels_text(item)]
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (
        f"<figure><figcaption><b>target_id {item.target_id}</b> {escape(item.stands_out)}</figcaption>"
        f"{object_figure(item, coordinate)}<ul>{listed}</ul></figure>"
    )


def _layers(found: Autopsy) -> str:
    heads = ["layer", "kind", "largest output", "not finite", "largest gradient", "share of gradient", "update", "of"]
    rows = [
        [
            escape(layer.name or "the network itself"),
            escape(layer.kind),
            number(layer.largest_activation),
            f"{layer.bad_activations} / {layer.bad_gradients + layer.bad_weight_gradients}",
            number(layer.largest_gradient),
            percent(layer.gradient_share),
            number(layer.update_norm),
            number(layer.weight_norm),
        ]
        for layer in by_interest(found.layers)[:_TABLED]
    ]
    note = (
        "Not finite: numbers of outputs / of gradients of outputs and weights. Share of gradient: norm of the "
        "gradient of the layer's weights, as a share of the norm of the whole. Update: norm of the change of its "
        "weights in this step, and of the weights before. Those that are not finite come first, then the largest "
        "relative updates."
    )
    return f'{table(heads, rows)}<p class="note">{note}</p>'


def _without(found: Autopsy) -> str:
    if not found.curves:
        return ""
    curves = {f"{name} them": points for name, points in found.curves.items()}
    return _paragraphs(curves_text(found)) + curves_figure(curves, found.chosen.step)


def _replay(found: Autopsy) -> str:
    start = f"checkpoint {found.checkpoint}" if found.checkpoint is not None else "the start of the run"
    first = (
        f"Steps {found.points[0].step} to {found.chosen.step} were done again from {start} on {found.device}, in one "
        f"process. {found.agreement.describe()} Sums of micro-batches may differ from the run in rounding."
    )
    doubts = "".join(f"<li>{escape(doubt)}</li>" for doubt in found.doubts)
    curves: dict[str, Sequence[Point]] = {"replayed": found.points}
    recorded = [dataclasses.replace(p, loss=p.recorded) for p in found.points if p.recorded is not None]
    if recorded:
        curves["recorded by the run"] = recorded
    return f"<p>{escape(first)}</p>{curves_figure(curves)}<p>Why they may differ:</p><ul>{doubts}</ul>"
