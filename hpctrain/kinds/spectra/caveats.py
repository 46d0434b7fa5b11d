"""What the records of a run say about its spectra: bad pixels, and spectra that do not contribute to the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpctrain.drawing.scale import grouped
from hpctrain.records import is_number

if TYPE_CHECKING:
    from hpctrain.metrics.read import History


def caveats(history: History) -> list[str]:
    """Return the numbers of training spectra with bad pixels and without weight, in sentences with advice.

    The records count a spectrum again in each epoch; the sentences count it once.
    """
    tallies = [event.counts for event in history.bad_values]
    num_read = sum(counts.get("num_spectra", 0) for counts in tallies)
    num_train = (history.data.num_train if history.data else None) or 0
    counts_of_data = history.data.counts if history.data else {}

    def about(name: str) -> int:
        total = sum(counts.get(name, 0) for counts in tallies)
        return max(1, round(total / num_read * num_train)) if total and num_read else 0

    found = []
    if spectra := about("num_bad_spectra"):
        found.append(
            f"About {grouped(spectra)} of {grouped(num_train)} training spectra have bad pixels, about "
            f"{grouped(about('num_bad_pixels'))} in all: flux not finite, or ivar negative or not finite. They were "
            "masked; `data.bad_pixels: error` ends the run instead and names them."
        )
    masked, weightless = about("num_empty_spectra"), round(_weightless(history) * num_train)
    is_noted = counts_of_data.get("num_rejected", 0) > 0  # the notes of the event `data` name the reasons
    if (masked or weightless) and not is_noted:
        kinds = [f"about {grouped(masked)} are fully masked or have no redshift"] if masked else []
        if weightless > 1.2 * masked:
            kinds.append(
                f"the normalisation rejected about {grouped(weightless - masked)}, with too little signal in every "
                "window (data.normalise)"
            )
        found.append(
            f"About {grouped(max(masked, weightless))} of {grouped(num_train)} training spectra do not contribute to "
            f"the loss: {' and '.join(kinds)}. Run `hpctrain data doctor` on the files for details."
        )
    return found


def _weightless(history: History) -> float:
    """Return the share of spectra in the recorded steps that did not contribute to the loss for any reason."""
    seen = without = 0.0
    for record in history.train:
        if record["step"] > 0 and (spectra := _whole(record.get("samples_seen"))):
            seen += spectra / record["step"]
            without += _whole(record.get("num_rejected"))
    return without / seen if seen else 0.0


def _whole(value: Any) -> int:
    return int(value) if is_number(value) else 0
