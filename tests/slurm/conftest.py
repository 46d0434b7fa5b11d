"""Assertions of the modules that tests on a real Slurm share show what they compared, as those in tests do."""

import pytest

pytest.register_assert_rewrite(
    "faulted_run", "faults_by_slurm", "faults_of_death", "faults_of_signals", "faults_that_linger"
)
