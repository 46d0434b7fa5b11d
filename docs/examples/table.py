"""A kind of data of our own: a table in HDF5, one row per object, and a model that learns from it in rounds (k-means).

The file has ``features`` (N, F) and ``target_id`` (N). Train it with ``model: {family: examples.table}``.
"""

from dataclasses import asdict, dataclass
from typing import Annotated

import h5py
import numpy as np
from pydantic import Field

from hpctrain.errors import DataError
from hpctrain.families.family import Family
from hpctrain.kinds.kind import Kind, Words
from hpctrain.profile.sections.data import DataSection
from hpctrain.profile.sections.model import NETWORK_SHAPE, ModelSection
from hpctrain.samples.arrays import ArraySamples
from hpctrain.samples.find import find_files


@dataclass(frozen=True)
class Facts:
    """What sizes a model: the number F of features."""

    num_features: int

    def to_json(self):
        return asdict(self)

    def difference(self, samples):
        there = samples.columns["features"].shape[1]
        return None if there == self.num_features else f"{there} features, the model has {self.num_features}"


class Table(Kind):
    name, section, words = "table", DataSection, Words("object", "objects")

    def open(self, data, base=None):
        features, target_id, files = [], [], []
        for path in find_files(data.files, base or "."):
            with h5py.File(path, "r") as file:
                if missing := {"features", "target_id"} - set(file):
                    raise DataError(f"{path}: has no dataset {', '.join(sorted(missing))}")
                features.append(file["features"][:].astype(np.float32))
                target_id.append(file["target_id"][:])
                files.append((path, len(target_id[-1])))
        return ArraySamples(files, np.concatenate(target_id), {"features": np.concatenate(features)})

    def facts(self, samples, rows):
        return Facts(samples.columns["features"].shape[1])

    def read_facts(self, values):
        return Facts(**values)

    def bytes_per_sample(self, facts):
        return 4 * facts.num_features


KIND = Table()


class Section(ModelSection):
    num_clusters: Annotated[int, Field(ge=1)] = 4
    """Number K of clusters."""
    rounds: Annotated[int, Field(ge=1)] = 10
    """Number of rounds."""
    fixed = {**ModelSection.fixed, "num_clusters": NETWORK_SHAPE}  # noqa: RUF012


class KMeans:
    """Lloyd's algorithm: a round assigns every object to the nearest centre, then moves the centres. K clusters."""

    def __init__(self, section, facts):
        self.centres = np.zeros((section.num_clusters, facts.num_features))

    def do_round(self, number, rows, read, seed):
        if number == 0:
            first = np.random.default_rng(seed).choice(rows, len(self.centres), replace=False)
            self.centres = np.concatenate([batch["features"].numpy() for batch in read(first)]).astype(np.float64)
        totals, counts, loss = np.zeros_like(self.centres), np.zeros(len(self.centres)), 0.0
        for batch in read(rows):
            features = batch["features"].numpy().astype(np.float64)
            nearest, distance = self._nearest(features)
            np.add.at(totals, nearest, features)
            np.add.at(counts, nearest, 1)
            loss += float(distance.sum())
        moved = np.maximum(counts, 1)[:, None]
        self.centres = np.where(counts[:, None] > 0, totals / moved, self.centres)
        return {"loss_sum": loss, "weight_sum": float(len(rows)), "num_samples": float(len(rows))}

    def score(self, batch):
        weight = batch.weight.numpy()
        _, distance = self._nearest(batch["features"].numpy().astype(np.float64))
        return {"loss_sum": float(weight @ distance), "weight_sum": float(weight.sum()), "num_samples": weight.sum()}

    def metrics(self, sums):
        return {"loss": sums["loss_sum"] / sums["weight_sum"]}

    def predict(self, batch):
        nearest, distance = self._nearest(batch["features"].numpy().astype(np.float64))
        return {"CLUSTER": nearest, "DISTANCE": distance}

    def state(self):
        return {"centres": self.centres}

    def load(self, state):
        self.centres = np.array(state["centres"], dtype=np.float64).reshape(self.centres.shape)

    def _nearest(self, features):
        square = np.square(features[:, None] - self.centres).sum(axis=-1)
        return square.argmin(axis=1), square.min(axis=1)


class Centres(Family):
    name, kind, section, how = "centres", "examples.table", Section, "rounds"

    def network(self, section, facts):
        return KMeans(section, facts)

    def num_rounds(self, section):
        return section.rounds


FAMILY = Centres()
