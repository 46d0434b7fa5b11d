"""The networks, which turn a normalised :class:`~hpctrain.spectra.batch.SpectraBatch` into sums of loss terms.

A new family is one file with a module class (``forward``, ``metrics``, ``encode``, ``reconstruct``, ``describe`` as in
:class:`~hpctrain.models.spectral_vae.SpectralVAE`), a section in the profile's schema, and a line in `FAMILIES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from hpctrain.models.facts import DataFacts
from hpctrain.models.spectral_vae import SpectralVAE

if TYPE_CHECKING:
    from hpctrain.profile.schema import ModelSection

FAMILIES: dict[str, type[nn.Module]] = {"spectral_vae": SpectralVAE}
"""Network of each ``model.family``."""

__all__ = ["FAMILIES", "DataFacts", "SpectralVAE", "build_model"]


def build_model(section: ModelSection, facts: DataFacts) -> nn.Module:
    """Build the network of a profile, with new weights from torch's global random state.

    Parameters
    ----------
    section : ModelSection
        The profile's ``model`` section.
    facts : DataFacts
        Grid and redshift range of the data.

    Returns
    -------
    torch.nn.Module
        The network on the CPU, in training mode, in float32.
    """
    return FAMILIES[section.family](section, facts)
