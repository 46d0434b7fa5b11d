"""What ``hpctrain features feast`` writes, in real Feast: registered, joined point in time, and served online.

It runs with ``ALL_FAULTS=1`` in the environment alone, because Feast is large and slow to import.
"""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest
from feast_lab import ask_feast

from hpctrain.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="needs a minute; set ALL_FAULTS=1"),
]
QUESTIONS = """\
import json
from datetime import datetime, timezone
import pandas as pd
from feast import FeatureStore

def day(number):
    return datetime(2026, 11, number, tzinfo=timezone.utc)

store = FeatureStore(".")
asked = pd.DataFrame({
    "target_id": [7, 7, 8, 8, 9],
    "event_timestamp": [day(5), day(15), day(15), day(2), day(1)],
    "label": [0, 1, 0, 1, 1],
})
names = ["epochs:mag", "epochs:LATENT_VEC", "epochs:g_r", "epochs:spectype"]
found = store.get_historical_features(entity_df=asked, features=names).to_df()
# Feast leaves out object 8 on 2 November, which has later features only; this join brings its row back.
whole = asked.merge(found, how="left", on=["target_id", "event_timestamp", "label"])
store.materialize(day(1), day(30))
online = store.get_online_features(features=store.get_feature_service("epochs_all"), entity_rows=[{"target_id": 7}])
print(json.dumps({
    "found": json.loads(found.sort_values(["target_id", "event_timestamp"]).to_json(orient="records")),
    "whole": json.loads(whole.to_json(orient="records")),
    "online": online.to_dict(),
}))
"""


def test_feast_joins_the_newest_earlier_features_and_a_left_join_brings_back_rows_without_any(tmp_path):
    with h5py.File(tmp_path / "epochs.h5", "w") as file:
        file["target_id"] = np.array([7, 7, 8], dtype=np.int64)
        file["MJD"] = [61345.0, 61355.0, 61350.0]  # 1, 11 and 6 November 2026
        file["mag"] = np.array([20, 21, 19], dtype=np.float32)
        file["g - r"] = np.array([0.5, 0.75, np.nan])
        file["LATENT_VEC"] = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float16)
        file["spectype"] = np.array([b"QSO", b"QSO", b"GALAXY"])
    out = tmp_path / "store"
    assert main(["features", "feast", str(tmp_path / "epochs.h5"), "--out", str(out), "--timestamp", "MJD"]) == 0
    said = json.loads(ask_feast(out, QUESTIONS).splitlines()[-1])
    first, second, other, unknown = said["found"]
    assert [first["mag"], second["mag"], other["mag"]] == [20, 21, 19]
    assert [first["g_r"], second["g_r"], other["g_r"]] == [0.5, 0.75, None]
    assert [first["LATENT_VEC"], second["LATENT_VEC"]] == [[1, 2], [3, 4]]
    assert other["spectype"] == "GALAXY"
    assert (unknown["target_id"], unknown["mag"]) == (9, None)
    whole = [(row["target_id"], row["label"], row["mag"]) for row in said["whole"]]
    assert whole == [(7, 0, 20), (7, 1, 21), (8, 0, 19), (8, 1, None), (9, 1, None)]
    assert said["online"]["mag"] == [21]
    assert said["online"]["LATENT_VEC"] == [[3, 4]]
