"""A model of our own: a linear autoencoder of spectra. docs/own-model.md explains it."""

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from hpctrain.families.family import Curve, Family, Panel
from hpctrain.profile.sections.model import NETWORK_SHAPE, ModelSection


class Section(ModelSection):
    """Our keys of ``model``: types, limits and defaults. `check` knows them and their near names."""

    num_components: Annotated[int, Field(ge=1, le=1000)] = 8
    """Number K of components."""
    fixed = {**ModelSection.fixed, "num_components": NETWORK_SHAPE}  # noqa: RUF012


class LinearAutoencoder(nn.Module):
    """Scores = encoder(flux), reconstruction = mean + scores @ components. N spectra, L pixels, K components."""

    def __init__(self, section, facts):
        super().__init__()
        self.encoder = nn.Linear(facts.num_pixels, section.num_components)
        self.decoder = nn.Linear(section.num_components, facts.num_pixels)
        nn.init.ones_(self.decoder.bias)  # normalised spectra have a median of 1
        self.weight_per_sample = float(facts.num_pixels)

    def _reconstruct(self, batch):
        seen = batch.ivar > 0
        scores = self.encoder(torch.where(seen, batch.flux - 1, 0.0))
        residual = torch.where(seen, batch.flux - self.decoder(scores), 0.0)
        return scores, (batch.ivar * residual.square()).sum(dim=1), seen.sum(dim=1)

    def forward(self, batch, step=0):
        """Return sums, never means: they add up over micro-batches and ranks. Masked pixels add exactly 0."""
        _, chi2, pixels = self._reconstruct(batch)
        num_samples = (pixels > 0).sum().float()
        return {"loss_sum": 0.5 * chi2.sum(), "weight_sum": pixels.sum().float(), "num_samples": num_samples}

    def metrics(self, sums):
        """Return the numbers that logs, report and early stopping use."""
        loss = sums["loss_sum"] / sums["weight_sum"]
        return {"loss": loss, "chi2": 2 * loss}

    def predict(self, batch):
        """Return the columns of ``hpctrain predict`` and of the exported network, each (N, ...)."""
        scores, chi2, pixels = self._reconstruct(batch)
        return {"SCORES": scores, "CHI2": chi2 / pixels.clamp(min=1)}


def draw_scores(files):
    """Return the HTML of our section of the report, from the predictions of the held-out spectra."""
    scores = files["predictions.h5"]["SCORES"]
    rows = "".join(f"<tr><td>{k + 1}</td><td>{spread:.3g}</td></tr>" for k, spread in enumerate(scores.std(axis=0)))
    return f"<table><thead><tr><th>component</th><th>spread</th></tr></thead><tbody>{rows}</tbody></table>"


class LinearFamily(Family):
    name, kind, section = "linear_autoencoder", "spectra", Section

    def network(self, section, facts):
        return LinearAutoencoder(section, facts)

    def judge(self, judge):
        if judge.profile.model.num_components > 100:
            judge.warn("more than 100 components describe the noise", "model.num_components")

    def curves(self):
        return [Curve("chi2", "Reconstruction error (χ²)", label="χ²", ideal=1.0)]

    def panels(self):
        return [Panel("scores", "Spread of the scores", ("predictions.h5",), draw_scores)]


FAMILY = LinearFamily()
