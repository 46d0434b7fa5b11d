"""The spectral variational autoencoder as a model family. The methods import torch when they are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.families.family import Family, HeldOut
from hpctrain.families.spectral_vae.judge import check_model
from hpctrain.families.spectral_vae.section import SpectralVAESection

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from hpctrain.families.spectral_vae.network import SpectralVAE as Network
    from hpctrain.kinds.spectra.batch import SpectraBatch
    from hpctrain.kinds.spectra.facts import SpectraFacts
    from hpctrain.profile.judge import Judge


class SpectralVAE(Family):
    """Encoder, rest-frame decoder, and the redshift between them."""

    name = "spectral_vae"
    kind = "spectra"
    section = SpectralVAESection
    sketch_name = "reconstructions"

    def network(self, section: SpectralVAESection, facts: SpectraFacts) -> Network:
        from hpctrain.families.spectral_vae.network import SpectralVAE as Network

        return Network(section, facts)

    def judge(self, judge: Judge) -> None:
        check_model(judge)

    def pin(self, section: SpectralVAESection, facts: SpectraFacts) -> dict[str, Any]:
        from hpctrain.families.spectral_vae.grid import RestGrid

        range_aa, num_pixels = RestGrid.extent(facts, section.rest_wavelength_aa, section.rest_pixels)
        return {"rest_wavelength_aa": range_aa, "rest_pixels": num_pixels}

    def sketch(self, model: Network, batch: SpectraBatch, step: int) -> dict[str, np.ndarray]:
        from hpctrain.families.spectral_vae.results import reconstructions

        return reconstructions(model, batch, step)

    def figures(self, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Figure]]:
        from hpctrain.families.spectral_vae.figures import draw_reconstructions

        yield from draw_reconstructions(arrays, len(arrays["flux"]))

    def write_results(self, model: Network, card: Mapping[str, Any], held_out: HeldOut, folder: Path) -> None:
        from hpctrain.families.spectral_vae.results import write_results

        write_results(model, card, held_out, folder)


FAMILY = SpectralVAE()
