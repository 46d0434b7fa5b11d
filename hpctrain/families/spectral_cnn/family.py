"""The convolutional network that learns labels of spectra, as a model family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpctrain.families.labels.family import LabelFamily
from hpctrain.families.spectral_cnn.judge import check_network

if TYPE_CHECKING:
    import numpy as np

    from hpctrain.families.spectral_cnn.network import SpectralCNN as Network
    from hpctrain.families.spectral_cnn.section import SpectralCNNSection
    from hpctrain.kinds.spectra.facts import SpectraFacts
    from hpctrain.kinds.spectra.hdf5 import SpectraSet
    from hpctrain.kinds.spectra.section import ObservedSpectraSection
    from hpctrain.profile.judge import Judge


class SpectralCNN(LabelFamily):
    """Labels of spectra by convolutions; no redshift is needed."""

    name = "spectral_cnn"
    kind = "spectra"
    against_overfitting = "a smaller network, model.dropout, data.augment, or more train.weight_decay"

    @property
    def section(self) -> type[SpectralCNNSection]:  # pydantic is imported only for a profile
        from hpctrain.families.spectral_cnn.section import SpectralCNNSection

        return SpectralCNNSection

    @property
    def data_section(self) -> type[ObservedSpectraSection]:
        from hpctrain.kinds.spectra.section import ObservedSpectraSection

        return ObservedSpectraSection

    def network(self, section: SpectralCNNSection, facts: SpectraFacts) -> Network:
        from hpctrain.families.spectral_cnn.network import SpectralCNN as Network

        return Network(section, facts)

    def judge(self, judge: Judge) -> None:
        super().judge(judge)
        check_network(judge)

    def settle(self, section: Any, samples: SpectraSet, rows: np.ndarray, start: Any = None) -> Any:
        from hpctrain.errors import DataError

        if samples.wavelength_aa is None:
            raise DataError(
                "the spectra have different wavelength grids, but spectral_cnn needs one; `hpctrain ingest` puts them "
                "on one grid"
            )
        return super().settle(section, samples, rows, start)


FAMILY = SpectralCNN()
