"""Calibration sees training spectra alone and all kinds of them; gates see held-out ones alone."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from hpctrain.edge.sample import choose_calibration, class_labels, open_sample, prepare_all, signal_to_noise
from hpctrain.errors import DataError
from hpctrain.kinds.spectra.section import SimulateSection, SpectraSection
from hpctrain.kinds.spectra.simulate import simulate
from hpctrain.profile.families import profile_class
from hpctrain.profile.sections.data import SplitSection
from hpctrain.profile.sections.edge import EdgeSection
from hpctrain.samples.split import TEST, TRAIN, VALIDATION, assign_split


def profile(path, validation=0.2, test=0.2, **edge):
    split = SplitSection(validation=validation, test=test)
    return profile_class()(name="run", data=SpectraSection(files=[str(path)], split=split), edge=EdgeSection(**edge))


@pytest.mark.parametrize(("test", "side"), [(0.2, TEST), (0.0, VALIDATION)])
def test_no_spectrum_is_on_both_sides_and_the_test_split_comes_first(simulated_file, network, test, side):
    made = profile(simulated_file, test=test)
    sample = open_sample(made)
    sides = assign_split(sample.train.target_id, made.data.split)
    assert set(sides[sample.train_rows]) == {TRAIN}
    assert set(sides[sample.held_out_rows]) == {side}
    assert sample.side == ("test" if side == TEST else "validation")
    calibration = choose_calibration(sample, network.preparation, 64)
    assert set(sides[calibration]) == {TRAIN}
    assert not set(sample.held_out.target_id[sample.held_out_rows]) & set(sample.train.target_id[calibration])


def test_calibration_spans_signal_to_noise_and_redshift(simulated_file, network):
    sample = open_sample(profile(simulated_file))
    rows = choose_calibration(sample, network.preparation, 40)
    assert len(set(rows)) == len(rows) == 40
    everything = prepare_all(sample.train, sample.train_rows, network.preparation)
    usable = everything.window >= 0
    chosen = np.isin(sample.train_rows, rows)
    assert usable[chosen].all()
    for values in (signal_to_noise(everything), everything.feeds["redshift"]):
        edges = np.quantile(values[usable], np.linspace(0, 1, 5))
        counts, _ = np.histogram(values[chosen], edges)
        assert counts.min() >= 4, counts


def test_few_spectra_are_all_taken(simulated_file, network):
    sample = open_sample(profile(simulated_file, validation=0.48, test=0.5))
    rows = choose_calibration(sample, network.preparation, 1000)
    assert 0 < len(rows) <= len(sample.train_rows)


def test_a_run_that_holds_nothing_out_needs_other_files(simulated_file, tmp_path):
    made = profile(simulated_file, validation=0.0, test=0.0)
    with pytest.raises(DataError, match=r"no spectrum is held out .* --held-out"):
        open_sample(made)
    with pytest.raises(DataError, match="of its objects were trained on"):
        open_sample(made, [str(simulated_file)])
    other = tmp_path / "other.h5"
    simulate(other, SimulateSection(num_spectra=30, num_pixels=500, seed=9))
    with h5py.File(other, "r+") as file:
        file["target_id"][:] = -1000 - np.arange(30)
    sample = open_sample(made, [str(other)])
    assert (sample.side, len(sample.held_out_rows)) == ("other files", 30)


def test_the_number_of_held_out_spectra_is_bounded(simulated_file):
    assert len(open_sample(profile(simulated_file, max_held_out=25)).held_out_rows) == 25


def test_classes_are_text_or_numbers_and_a_missing_column_is_named(spectra):
    rows = np.array([3, 1])
    assert set(class_labels(spectra, "is_unusual", np.arange(50))) <= {"False", "True"}
    assert class_labels(spectra, "spectype", rows).shape == (2,)
    with pytest.raises(DataError, match="no column 'kind' with one value per spectrum"):
        class_labels(spectra, "kind", rows)
