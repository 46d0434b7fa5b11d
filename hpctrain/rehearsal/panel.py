"""Draw samples with the family's own panel of the report, where it has one for samples."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from hpctrain.train.run import Run


def family_panel(run: Run, rows: np.ndarray) -> str:
    """Return these rows (n,) as the report draws held-out samples; empty if the family draws none.

    The samples are prepared without augmentation, and the network has the weights of now.
    """
    file = f"{run.family.sketch_name}.npz"
    panel = next((panel for panel in run.family.panels() if panel.needs == (file,)), None)
    if panel is None or not len(rows):
        return ""
    was_training = run.model.training
    run.model.eval()
    try:
        with torch.no_grad(), np.errstate(all="ignore"):
            batch = run.prepare(run.data.samples.read(rows).to(run.device))
            arrays = run.family.sketch(run.model, batch, run.progress.step)
            return "" if arrays is None else panel.draw({file: arrays})
    except Exception as error:  # values that are not finite may be too much for a drawing
        return f'<p class="empty">The family cannot draw them: {escape(repr(error))}</p>'
    finally:
        run.model.train(was_training)
