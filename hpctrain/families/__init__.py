"""The families of models, one folder each, and how a finished model is stored.

A network turns a normalised batch of its kind of data into sums of loss terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.kinds.spectra.facts import SpectraFacts

if TYPE_CHECKING:
    from hpctrain.profile.schema import ModelSection

FAMILIES: dict[str, type[nn.Module]] = {"spectral_vae": SpectralVAE}
"""Network of each ``model.family``."""

__all__ = ["FAMILIES", "SpectraFacts", "SpectralVAE", "build_model"]


def build_model(section: ModelSection, facts: SpectraFacts) -> nn.Module:
    """Build the network of a profile, with new weights from torch's global random state.

    Parameters
    ----------
    section : ModelSection
        The profile's ``model`` section.
    facts : SpectraFacts
        Grid and redshift range of the data.

    Returns
    -------
    torch.nn.Module
        The network on the CPU, in training mode, in float32.
    """
    return FAMILIES[section.family](section, facts)
