"""The spectral variational autoencoder as a model family. The methods import torch when they are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.families.family import Family, TrainingSamples
from hpctrain.families.held_out import HeldOut
from hpctrain.families.shown import Card, Column, Curve, Panel
from hpctrain.families.spectral_vae.choices import PCA
from hpctrain.families.spectral_vae.judge import check_model
from hpctrain.words import Metric

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from hpctrain.families.result_files import Arrays
    from hpctrain.families.spectral_vae.network import SpectralVAE as Network
    from hpctrain.families.spectral_vae.section import SpectralVAESection
    from hpctrain.kinds.spectra.batch import SpectraBatch
    from hpctrain.kinds.spectra.facts import SpectraFacts
    from hpctrain.profile.judge import Judge


class SpectralVAE(Family):
    """Encoder, rest-frame decoder, and the redshift between them."""

    name = "spectral_vae"
    kind = "spectra"
    shown_metrics = (
        Metric("chi2", "mean chi²", "Chi-square per pixel"),
        Metric("kl", "KL", "Kullback-Leibler divergence per spectrum"),
    )
    sketch_name = "reconstructions"
    loss = Curve(
        "loss",
        "Loss",
        unit="loss per pixel",
        caption="Half the χ² of the valid pixels, where spectra that fit badly count less (model.robust), plus beta "
        "times the Kullback–Leibler divergence of the latent vectors, per valid pixel of the global batch. The noise "
        "alone gives 0.43, and 0.5 without model.robust.",
    )
    against_overfitting = "train.early_stopping, model.dropout, or a smaller network"
    encodes = True

    @property
    def section(self) -> type[SpectralVAESection]:  # pydantic is imported only for a profile
        from hpctrain.families.spectral_vae.section import SpectralVAESection

        return SpectralVAESection

    def network(self, section: SpectralVAESection, facts: SpectraFacts) -> Network:
        from hpctrain.families.spectral_vae.network import SpectralVAE as Network

        return Network(section, facts)

    def has_start(self, section: SpectralVAESection) -> bool:
        return section.start == PCA

    def start(self, model: Network, section: SpectralVAESection, samples: TrainingSamples) -> Iterator[None]:
        from hpctrain.families.spectral_vae.start import fit_start

        yield from fit_start(model, section, samples)

    def judge(self, judge: Judge) -> None:
        check_model(judge)

    def pin(self, section: SpectralVAESection, facts: SpectraFacts) -> dict[str, Any]:
        from hpctrain.families.spectral_vae.network import rest_extent

        range_aa, num_pixels = rest_extent(section, facts)
        return {"rest_wavelength_aa": range_aa, "rest_pixels": num_pixels}

    def curves(self) -> Sequence[Curve]:
        return (
            Curve(
                "chi2",
                "Reconstruction error (χ²)",
                unit="mean χ² per pixel",
                label="χ²",
                ideal=1.0,
                ideal_label="1: the noise",
                training=False,
            ),
            Curve("kl", "Kullback–Leibler divergence", unit="nat per spectrum", training=False, first=False),
        )

    def cards(self, evaluation: Mapping[str, Any], held_out: str, results: Mapping[str, Arrays]) -> Sequence[Card]:
        from hpctrain.families.spectral_vae.show import chi2_card

        return (chi2_card(evaluation, held_out, results),)

    def fit_sentence(self, evaluation: Mapping[str, Any], held_out: str, results: Mapping[str, Arrays]) -> str:
        from hpctrain.families.spectral_vae.show import fit_sentence

        return fit_sentence(evaluation, held_out, results)

    def panels(self) -> Sequence[Panel]:
        from hpctrain.families.spectral_vae.show import PANELS

        return PANELS

    def read_results(self, path: Path) -> Arrays:
        from hpctrain.families.spectral_vae.shown_results import read_results

        return read_results(path)

    def example(self, results: Mapping[str, Arrays]) -> str:
        from hpctrain.families.spectral_vae.show import example

        return example(results)

    def sketch(self, model: Network, batch: SpectraBatch, step: int) -> dict[str, np.ndarray]:
        from hpctrain.families.spectral_vae.results import reconstructions

        return reconstructions(model, batch, step)

    def figures(self, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Figure]]:
        from hpctrain.families.spectral_vae.figures import draw_reconstructions

        yield from draw_reconstructions(arrays, len(arrays["flux"]))

    def columns(self) -> Mapping[str, Column]:
        from hpctrain.families.spectral_vae.catalogue import COLUMNS

        return {name: Column(unit, meaning) for name, (_, unit, meaning) in COLUMNS.items()}

    def predictions(self, model: Network, card: Mapping[str, Any], batch: SpectraBatch) -> dict[str, np.ndarray]:
        from hpctrain.families.spectral_vae.encode import encode_batch

        return encode_batch(model, card, batch)

    def scores(self, table: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> dict[str, np.ndarray]:
        from hpctrain.families.spectral_vae.scoring import score_table

        return score_table(table, card).columns

    def reconstructions(self, model: Network, card: Mapping[str, Any], batch: SpectraBatch) -> dict[str, np.ndarray]:
        from hpctrain.families.spectral_vae.results import drawn_spectra

        return drawn_spectra(model, card, batch)

    def write_results(self, model: Network, card: Mapping[str, Any], held_out: HeldOut, folder: Path) -> None:
        from hpctrain.families.spectral_vae.results import write_results

        write_results(model, card, held_out, folder)


FAMILY = SpectralVAE()
