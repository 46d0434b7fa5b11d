"""Which parts of an image a prediction depends on: how the output changes when a patch is hidden. G × G patches.

References
----------
.. [1] Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, ECCV, arXiv:1311.2901, section 4.2.
"""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.families.predictions_panel import FILE as PREDICTIONS
from hpctrain.families.result_files import Arrays, UnusableResultsError, read_hdf5
from hpctrain.families.shown import Panel

if TYPE_CHECKING:
    from hpctrain.families.held_out import HeldOut

FILE = "saliency.npz"
NUM_IMAGES = 12
NUM_PATCHES = 12
"""G: patches along each axis; each is twice as wide as their distance, so that they overlap."""

_SHOWN_PIXELS = 148


def write_saliency(model: Any, held_out: HeldOut, folder: Path) -> None:
    """Write ``saliency.npz``: some held-out images, and how the first label changes when a patch is hidden.

    Parameters
    ----------
    model : ImageCNN
        In evaluation mode.
    held_out : HeldOut
    folder : Path
        With ``predictions.h5``.
    """
    from hpctrain.files import NewFile

    columns, head = read_hdf5(folder / PREDICTIONS), model.heads[0]
    chosen = choose(columns, head.title)
    if not len(chosen):
        return
    batch = held_out.prepare(held_out.samples.read(held_out.rows[chosen]).to(held_out.device))
    with one_view(model):
        maps = np.stack([hidden_patches(model, batch, number) for number in range(len(chosen))])
    held_out.tick(len(held_out.rows))
    unknown = np.full(len(chosen), b"")
    with NewFile(folder / FILE, durable=False, replace_folders=True) as new:
        np.savez(
            new.stream,
            title=np.array(head.title),
            image=batch.image.cpu().numpy(),
            map=maps,
            target_id=held_out.samples.target_id[held_out.rows[chosen]],
            predicted=_texts(columns[f"{head.title}_PRED"][chosen]),
            true=_texts(columns[f"{head.title}_TRUE"][chosen]) if f"{head.title}_TRUE" in columns else unknown,
        )


def choose(columns: Arrays, title: str) -> np.ndarray:
    """Return which held-out images to show, at most `NUM_IMAGES`: half the worst predictions, half typical ones."""
    predicted = columns[f"{title}_PRED"]
    known = np.flatnonzero(predicted != b"" if predicted.dtype.kind == "S" else np.isfinite(predicted))
    for name in (f"{title}_LOG_LOSS", f"{title}_RESIDUAL"):
        if name in columns and np.isfinite(columns[name]).any():
            labelled = known[np.isfinite(columns[name][known])]
            ordered = labelled[np.argsort(-np.abs(columns[name][labelled]), kind="stable")]
            if len(ordered) <= NUM_IMAGES:
                return ordered
            worst, rest = ordered[: NUM_IMAGES // 2], ordered[NUM_IMAGES // 2 :]
            spread = np.linspace(0, len(rest) - 1, NUM_IMAGES - len(worst)).astype(np.int64)
            return np.concatenate([worst, rest[spread]])
    return known[:NUM_IMAGES]


@contextlib.contextmanager
def one_view(model: Any) -> Iterator[None]:
    """Let a network look at the unturned image only: the maps of eight views would take longer than many trainings."""
    views, model.views = model.views, 1
    try:
        yield
    finally:
        model.views = views


def hidden_patches(model: Any, batch: Any, number: int) -> np.ndarray:
    """Return how much the output for one image falls when each patch is hidden, (G, G), float32.

    For a class the output is the probability of the predicted one, otherwise the predicted value.
    """
    import torch

    image, weight = batch.image[number : number + 1], batch.weight[number : number + 1]
    height, width = image.shape[2:]
    row = batch.row[number : number + 1]

    def output(weights: torch.Tensor) -> np.ndarray:
        n = len(weights)
        many = batch.replace(
            image=torch.where(weights > 0, image.expand(n, -1, -1, -1), 0.0), weight=weights, row=row.expand(n)
        )
        with torch.no_grad():
            [(head, outputs), *_] = model.outputs(many)
            columns = head.columns(outputs)
        return (columns["PROB"] if "PROB" in columns else columns["PRED"][:, None]).double().cpu().numpy()

    edges_y, edges_x = _edges(height), _edges(width)
    hidden = weight.repeat(NUM_PATCHES, 1, 1, 1)
    whole = output(weight)[0]
    which, found = int(whole.argmax()), np.empty((NUM_PATCHES, NUM_PATCHES), np.float32)
    for line, (top, bottom) in enumerate(edges_y):
        part = hidden.clone()
        for column, (left, right) in enumerate(edges_x):
            part[column, :, top:bottom, left:right] = 0.0
        found[line] = whole[which] - output(part)[:, which]
    return found


def _edges(side: int) -> list[tuple[int, int]]:
    step = side / NUM_PATCHES
    return [
        (max(0, round((at - 0.5) * step)), max(round((at - 0.5) * step) + 1, min(side, round((at + 1.5) * step))))
        for at in range(NUM_PATCHES)
    ]


def _texts(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        return np.array(values.tolist(), dtype="S")  # without h5py's note on the encoding, which npz cannot hold
    return np.array([f"{value:.3g}".encode() for value in values.tolist()])


def saliency_figures(results: Mapping[str, Arrays]) -> str:
    """Return images with their maps side by side as HTML."""
    found = results[FILE]
    image, maps = found["image"], found["map"]
    if image.ndim != 4 or maps.ndim != 3 or len(image) != len(maps):
        raise UnusableResultsError("is damaged: images and maps do not fit together")
    title, cells = str(found["title"]), []
    for number in range(len(image)):
        predicted, true = (_decoded(found[name][number]) for name in ("predicted", "true"))
        label = f"{escape(predicted)}, true: {escape(true) or 'unknown'}"
        name = f"target_id {int(found['target_id'][number])}"
        both = "".join(picture_html(pixels, name) for pixels in (colours(image[number]), heat(maps[number])))
        cells.append(
            f'<div style="display:inline-block;margin:0 14px 12px 0"><div>{both}</div>'
            f'<div class="note">{name}<br>{label}</div></div>'
        )
    lead = (
        f"Held-out images as the network reads them, and the parts on which its prediction of <b>{escape(title)}</b> "
        "depends: red where hiding a patch lowers the output, blue where it raises it, each map on its own scale. Half "
        "of them are the worst predictions."
    )
    return f'<p class="lead">{lead}</p><div>{"".join(cells)}</div>'


def _decoded(text: bytes) -> str:
    return bytes(text).decode("utf-8", "replace")


def colours(image: np.ndarray) -> np.ndarray:
    """Return a picture (H, W, 3), uint8, of scaled bands (B, H, W); the last band is red, the first one blue."""
    order = [0, 0, 0] if len(image) < 3 else [len(image) - 1, len(image) // 2, 0]
    values = image[order].astype(np.float64)
    low, high = np.percentile(values, [5.0, 99.8])
    return np.round(255 * np.clip((values - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8).transpose(1, 2, 0)


def heat(values: np.ndarray) -> np.ndarray:
    """Return a picture (G, G, 3), uint8: red for positive, blue for negative values, white for 0."""
    share = np.nan_to_num(values / max(float(np.nanmax(np.abs(values))), 1e-12))
    red, blue = np.array([178, 24, 43]), np.array([33, 102, 172])
    goal = np.where(share[..., None] > 0, red, blue)
    return np.round(255 + np.abs(share)[..., None] * (goal - 255)).astype(np.uint8)


def picture_html(pixels: np.ndarray, name: str) -> str:
    """Return a picture (H, W, 3), uint8, as HTML; `name` is what a screen reader says."""
    from PIL import Image

    stream = io.BytesIO()
    size = (_SHOWN_PIXELS, round(_SHOWN_PIXELS * pixels.shape[0] / pixels.shape[1]))
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(stream, "png", optimize=True)
    text = base64.b64encode(stream.getvalue()).decode()
    return f'<img src="data:image/png;base64,{text}" alt="{escape(name)}" width="{size[0]}" height="{size[1]}"> '


SALIENCY = Panel("saliency", "Where the network looks", (FILE,), saliency_figures)
