"""The fixtures that all tests share do what they say."""

from __future__ import annotations

import os

import h5py
import pytest
from leaking_variables import leaking


def test_no_variable_of_the_job_a_test_was_started_from_gets_through():
    assert leaking() == []
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_a_variable_that_a_test_left_behind_is_taken_away_first():
    os.environ["SLURM_JOB_ID"] = "1"  # without monkeypatch, as a careless test does


def test_a_variable_that_a_test_left_behind_is_taken_away_second():
    assert "SLURM_JOB_ID" not in os.environ


def test_the_simulated_file_has_the_layout_that_the_trainer_reads(simulated_file):
    with h5py.File(simulated_file) as file:
        assert file["flux"].shape == file["ivar"].shape == (400, 500)
        assert file["wavelength"].shape == (500,)
        assert file["target_id"].shape == file["redshift"].shape == (400,)


@pytest.mark.shared_data
def test_the_survey_files_are_found(shared_data):
    assert (shared_data / "sdss_spec").is_dir()
