"""What a network must know of images. No torch here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpctrain.kinds.images.images import ImageSet


@dataclass(frozen=True)
class ImageFacts:
    """Bands and size of the images that a network reads.

    Parameters
    ----------
    bands : tuple of str
        Names of the B bands, in order.
    height, width : int
        H and W [pixel], after crop and bin.
    """

    bands: tuple[str, ...]
    height: int
    width: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {**asdict(self), "bands": list(self.bands)}

    def difference(self, samples: ImageSet) -> str | None:
        """Return why a model made for these facts cannot read `samples`; None if it can."""
        if samples.bands != self.bands:
            return f"they have the bands {', '.join(samples.bands)}; the model reads {', '.join(self.bands)}"
        height, width = samples.prepared_shape
        if (height, width) != (self.height, self.width):
            return (
                f"they have {height} × {width} pixels after crop and bin; the model reads {self.height} × {self.width}"
            )
        return None
