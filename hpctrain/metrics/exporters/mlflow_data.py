"""A data set in MLflow's own words."""

from __future__ import annotations

import json
from typing import Any

from hpctrain.metrics.exporters.subject import DataSet

_FILE = "local"
"""MLflow's word for a file on a disk; ``mlflow.data.get_source`` understands it."""
_LONGEST_DIGEST = 32


def input_of(data: DataSet) -> Any:
    """Return a data set as an input of a tracked run; the digest has room for half of a SHA-256, the profile has all.

    Returns
    -------
    mlflow.entities.DatasetInput
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    facts = {"sha256": data.digest, "of": data.means, "bytes": data.size}
    source = json.dumps({"uri": data.path})
    entity = Dataset(data.name, data.digest[:_LONGEST_DIGEST], _FILE, source, profile=json.dumps(facts))
    return DatasetInput(entity, [InputTag("mlflow.data.context", data.role)])
