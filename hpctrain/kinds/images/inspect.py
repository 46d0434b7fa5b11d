"""Look at some hundred training images before a run: are they there, do they differ, do labels fit them?"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.kinds.images.reasons import reasons
from hpctrain.profile.inspection import ERROR, NOTE, WARNING, Inspection, Remark
from hpctrain.samples.probe import NEIGHBOURS, choose_sample

if TYPE_CHECKING:
    from hpctrain.kinds.images.images import ImageSet
    from hpctrain.kinds.images.section import ImagesSection

MANY = 0.5
"""Share of images without weight above which something is probably wrong."""


def inspect_images(samples: ImageSet, rows: np.ndarray, data: ImagesSection) -> Inspection:
    """Return what is wrong or doubtful with a sample of the images, which is the same each time.

    Parameters
    ----------
    samples : ImageSet
    rows : ndarray, shape (M,), int64
        Training rows.
    data : ImagesSection

    Raises
    ------
    DataError
        An image cannot be read.
    """
    from hpctrain.kinds.images.prepare import prepare

    chosen = choose_sample(rows)
    empty: Counter[str] = Counter()
    seen: Counter[bytes] = Counter()
    num_bad = num_bad_images = 0
    for start in range(0, len(chosen), NEIGHBOURS):
        these = chosen[start : start + NEIGHBOURS]
        batch = prepare(samples.read(these), data.scale, data.crop, data.bin)
        bad, usable = batch.num_bad.numpy(), batch.is_usable.numpy()
        num_bad, num_bad_images = num_bad + int(bad.sum()), num_bad_images + int((bad > 0).sum())
        if not usable.all():
            empty.update(reasons(samples, these[~usable]))
        seen.update(hashlib.blake2b(image.tobytes()).digest() for image in batch.image.numpy()[usable])
    found = Inspection(len(rows), len(chosen), sum(empty.values()))
    found.remarks += _empty(empty, len(chosen))
    if num_bad:
        text = (
            f"{num_bad:,} pixels of {num_bad_images:,} among {len(chosen):,} inspected images are not finite or have a "
            "wrong ivar; they get weight 0. `data.bad_pixels: error` names them."
        )
        found.remarks.append(Remark(NOTE, "bad-pixels", text, "data.bad_pixels"))
    copies = sum(number - 1 for number in seen.values())
    if copies:
        text = (
            f"{copies:,} of {len(chosen):,} inspected images are copies of others. If copies have different "
            "identifiers, one may be trained on and the other held out."
        )
        found.remarks.append(Remark(WARNING, "copies", text, "data.columns.target_id"))
    return found


def _empty(empty: Counter[str], num: int) -> list[Remark]:
    total = sum(empty.values())
    if not total:
        return []
    listed = "; ".join(f"{count:,}: {reason}" for reason, count in empty.most_common())
    if total == num:
        text = (
            f"All {num:,} inspected images show nothing ({listed}). Check data.columns, data.mask_marks and data.crop."
        )
        return [Remark(ERROR, "all-empty", text, "data.columns")]
    text = f"{total:,} of {num:,} inspected images show nothing and carry no weight ({listed})."
    return [Remark(WARNING if total > MANY * num else NOTE, "some-empty", text, "data.columns")]
