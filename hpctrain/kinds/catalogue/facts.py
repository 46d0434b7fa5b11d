"""What a model must know of a catalogue. F inputs. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpctrain.kinds.catalogue.samples import CatalogueSamples

INPUTS = "inputs"
"""Name of the array (N, F) in a batch, float32; NaN where a value is missing."""


@dataclass(frozen=True)
class CatalogueFacts:
    """What a model must know of a catalogue: the names of its F inputs, in order."""

    names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {"names": list(self.names)}

    def difference(self, samples: CatalogueSamples) -> str | None:
        """Return why a model made for these facts cannot read `samples`; None if it can."""
        if samples.names == self.names:
            return None
        return f"it has {', '.join(samples.names)}; the model reads {', '.join(self.names)}"
