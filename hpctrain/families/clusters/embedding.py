"""A space of few axes in which neighbours stay neighbours (UMAP). N training objects, G inputs, D axes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from hpctrain.errors import DataError
from hpctrain.families.clusters.space import Space

if TYPE_CHECKING:
    from hpctrain.families.clusters.section import ClustersSection

DEFAULT_AXES = 2
"""D, where the profile gives no number."""


class Embedding(Space):
    """A space whose points are places in an embedding of the training objects.

    A new object gets the mean place of its nearest training objects, weighted by the inverse of their distances. A
    training object keeps its own place.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Those of a :class:`Space`, and ``known`` (N, G): scaled inputs of the training objects, ``places`` (N, D),
        ``neighbours`` (1,): how many of them give a new object its place.
    clip, fills
        As for a :class:`Space`.

    References
    ----------
    .. [1] McInnes, Healy & Melville 2018, UMAP, arXiv:1802.03426.
    """

    names = (*Space.names, "known", "places", "neighbours")
    is_network = False

    def __init__(self, arrays: Mapping[str, np.ndarray], clip: float | None, fills: bool) -> None:
        super().__init__(arrays, clip, fills)
        self._tree = KDTree(self.known.numpy())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the points (N, D), float64, of inputs (N, F); 0 for an object without a point."""
        usable = self.usable(inputs).numpy()
        found = np.zeros((len(inputs), self.places.shape[1]))
        scaled = self.scaled(inputs).numpy()[usable]
        if len(scaled):
            count = min(int(self.neighbours[0]), len(self.known))
            distance, near = (each.reshape(len(scaled), -1) for each in self._tree.query(scaled, k=count))
            weight = 1.0 / np.maximum(distance, 1e-12)
            weight[distance[:, 0] == 0, 1:] = 0.0
            places = self.places.numpy()[near]
            found[usable] = (weight[:, :, None] * places).sum(axis=1) / weight.sum(axis=1)[:, None]
        return torch.from_numpy(found)


def embed(space: Space, inputs: np.ndarray, section: ClustersSection, seed: int) -> Embedding:
    """Return the embedding of training objects.

    Parameters
    ----------
    space : Space
        Its scaled inputs are embedded.
    inputs : ndarray, shape (N, F), float32
    section : ClustersSection
    seed : int

    Raises
    ------
    DataError
        umap-learn is not installed, or there are fewer objects than neighbours.
    """
    try:
        from umap import UMAP
    except ImportError as error:
        raise DataError("model.reduce: umap needs umap-learn; pip install 'hpctrain[umap]'") from error
    tensor = torch.from_numpy(inputs)
    known = space.scaled(tensor)[space.usable(tensor)].numpy()
    if len(known) <= section.neighbours:
        raise DataError(f"model.neighbours: {section.neighbours}, but only {len(known):,} training objects can be used")
    source = int(np.random.SeedSequence(seed).generate_state(1, np.uint32)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fixed seed needs one thread, and it says so
        places = UMAP(
            n_neighbors=section.neighbours,
            n_components=num_places(section),
            min_dist=0.0,  # clusters are to be dense, not to be looked at
            random_state=source % 2**31,
            n_jobs=1,
        ).fit_transform(known)
    arrays = {
        **space.state(),
        "known": known,
        "places": places.astype(np.float64),
        "neighbours": np.array([section.neighbours], dtype=np.float64),
    }
    return Embedding(arrays, space.clip, space.fills)


def num_places(section: ClustersSection) -> int:
    """Return D, the number of axes of an embedding."""
    return section.components if isinstance(section.components, int) else DEFAULT_AXES
