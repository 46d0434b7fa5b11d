"""Data that a profile simulates are made once, also when several trials of a study begin at the same time."""

from __future__ import annotations

import threading

import h5py
from families import TINY, profile_values

from hpctrain.distributed.world import World
from hpctrain.profile.families import profile_of
from hpctrain.train.build import make_data


def test_two_runs_that_begin_together_share_the_file_that_one_of_them_makes(tmp_path):
    path = tmp_path / "made.h5"
    values = profile_values(TINY["spectral_vae"], path)
    values["data"]["simulate"] = {"num_spectra": 300, "num_pixels": 256}
    profile = profile_of(values)
    together, failed = threading.Barrier(2), []

    def begin():
        together.wait()
        try:
            make_data(profile, World())
        except Exception as error:  # a thread would print it only
            failed.append(error)

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with h5py.File(path) as file:
        assert file["flux"].shape == (300, 256)
    assert [found.name for found in tmp_path.iterdir()] == ["made.h5"]
