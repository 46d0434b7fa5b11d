"""When no pixel of a global batch has weight: name the objects and the reasons, and exit with code 4."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from hpctrain.distributed.group import gather_json
from hpctrain.errors import DataError
from hpctrain.kinds.spectra.norm import choose_window
from hpctrain.kinds.spectra.transform import normalise
from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.train.build import Run

_LISTED = 10

NO_REDSHIFT, MASKED, NO_WINDOW, NO_SIGNAL, OUTSIDE = (
    "no redshift",
    "fully masked",
    "no normalisation window within the observed range",
    "signal to noise ratio of the normalisation window too low",
    "no valid pixel within the rest-frame range of the network",
)
_REMEDIES = {
    NO_REDSHIFT: "set data.columns.redshift to the column that holds redshifts",
    MASKED: "check data.columns.ivar and data.columns.mask",
    NO_WINDOW: "add a window that the spectra reach to data.normalise.windows_aa, and check the unit of wavelength",
    NO_SIGNAL: "lower data.normalise.min_snr, and check that flux and ivar are in the same units",
    OUTSIDE: "widen model.rest_wavelength_aa",
}


def raise_empty_batch(run: Run, step: int) -> NoReturn:
    """Name the objects of a step in which no pixel has weight, and raise on all ranks.

    Parameters
    ----------
    run : Run
    step : int
        Number of the step. Its gradient was not applied; all ranks call this at the same boundary.

    Raises
    ------
    DataError
        Always; the message gives row, target id and reason of the first objects, and the remedy.
    """
    schedule, world = run.schedule, run.world
    mine = range(world.rank, schedule.num_micro_batches, world.world_size)
    samples = schedule.samples_of(range(step - 1, step), mine).reshape(-1)
    rows = run.spectra.train_rows[samples[samples >= 0]]
    size = schedule.micro_batch
    found: list[tuple[str, str]] = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        for row, reason in zip(part, _reasons(run, part), strict=True):
            path, row_of_file = run.spectra.source.locate(int(row))
            target_id = int(run.spectra.source.target_id[row])
            found.append((reason, f"{path}: row {row_of_file}, target_id {target_id}: {reason}"))
    everything = [item for part in gather_json(world, found) for item in part]
    counts = Counter(reason for reason, _ in everything)
    more = [f"... and {len(everything) - _LISTED:,} more"] if len(everything) > _LISTED else []
    raise DataError(
        "\n  ".join(
            [
                f"step {step}: none of the {len(everything):,} spectra of the global batch carries weight, so there is "
                f"nothing to learn from ({_as_text(counts)}). {_remedy(counts)}. No checkpoint holds this step",
                *(text for _, text in everything[:_LISTED]),
                *more,
            ]
        )
    )


def why_without_weight(run: Run, rows: np.ndarray) -> dict[str, int]:
    """Return the number of these rows without weight by reason, the most common reason first."""
    return dict(Counter(_reasons(run, rows)).most_common())


def _as_text(counts: Counter[str]) -> str:
    return "; ".join(f"{count:,}: {reason}" for reason, count in counts.most_common())


def _remedy(counts: Counter[str]) -> str:
    text = _REMEDIES[counts.most_common(1)[0][0]]
    return text[0].upper() + text[1:]


def _reasons(run: Run, rows: np.ndarray) -> list[str]:
    """Return, for each of these rows without weight in training, the reason."""
    source, section = run.spectra.source, run.profile.data.normalise
    raw = source.read(rows[rows != PADDING_ROW])
    batch = normalise(raw, section)
    chosen = choose_window(raw.wavelength_aa.numpy(), raw.redshift.numpy(), section.windows_aa)
    is_masked, is_rejected = ~batch.has_weight.numpy(), batch.window.numpy() < 0
    reasons = np.full(len(rows), OUTSIDE, dtype=object)
    reasons[is_rejected] = NO_SIGNAL
    reasons[is_rejected & (chosen < 0)] = NO_WINDOW
    reasons[is_masked] = MASKED
    reasons[~source.has_redshift[rows]] = NO_REDSHIFT
    return reasons.tolist()
