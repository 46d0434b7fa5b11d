"""Simulated spectra stand in for real ones in every test and benchmark, so they are held to what real ones are."""

import h5py
import numpy as np
import pytest

from hpctrain.cli import main
from hpctrain.errors import DataError, ProfileError
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import SimulateSection, SpectraSection
from hpctrain.kinds.spectra.simulate import UNUSUAL_KINDS, Simulator, simulate


@pytest.fixture(scope="module")
def simulator():
    return Simulator(SimulateSection(snr_median=6.0, seed=4))


@pytest.fixture(scope="module")
def block(simulator):
    return simulator.rows(np.arange(256))


def test_a_spectrum_is_the_same_in_whatever_block_it_is_made(simulator, block):
    rows = np.array([200, 3, 31, 77])
    alone = simulator.rows(rows)
    assert np.array_equal(alone.model, block.model[rows])
    assert np.array_equal(alone.flux, block.flux[rows])
    assert np.array_equal(alone.ivar, block.ivar[rows])
    for name in ("target_id", "redshift", "unusual_kind", "ra"):
        assert np.array_equal(alone.columns[name], block.columns[name][rows])


def test_the_noise_is_as_large_as_ivar_says(block):
    valid = block.ivar > 0
    pull2 = ((block.flux - block.model) ** 2 * block.ivar)[valid]
    assert pull2.mean() == pytest.approx(1.0, abs=5 * np.sqrt(2 / valid.sum()))
    # Also on the sky lines and at the edges, where a wrong noise model would hide in the mean.
    by_pixel = np.where(valid, (block.flux - block.model) ** 2 * block.ivar, 0).sum(0) / valid.sum(0)
    assert np.abs(by_pixel - 1).max() < 7 * np.sqrt(2 / 256)


def test_the_grid_is_that_of_desi_and_coarser_ones_have_the_same_ends(simulator):
    assert simulator.wavelength_aa[[0, -1]].tolist() == [3600.0, 9824.0]
    assert len(simulator.wavelength_aa) == 7781
    coarse = Simulator(SimulateSection(num_pixels=512))
    assert coarse.wavelength_aa[[0, -1]].tolist() == [3600.0, 9824.0]
    assert coarse.rows(np.arange(4)).flux.shape == (4, 512)


def test_a_coarse_grid_sees_the_same_objects_with_less_noise_per_pixel(block):
    coarse = Simulator(SimulateSection(snr_median=6.0, seed=4, num_pixels=778)).rows(np.arange(64))
    fine = block.model[:64, :7780].reshape(64, 778, 10).mean(axis=2)
    ratio = np.median(coarse.model / fine, axis=1)
    assert np.percentile(np.abs(ratio / np.median(ratio) - 1), 90) < 0.05
    assert np.median(coarse.columns["snr"]) == pytest.approx(
        np.sqrt(10) * np.median(block.columns["snr"][:64]), rel=0.2
    )


def test_signal_to_noise_is_what_was_asked_for(block):
    assert np.median(block.columns["snr"]) == pytest.approx(6.0, rel=0.15)


def peak_near(block, wavelength_aa, index, line_aa, reach_aa):
    """Return the rest wavelength of the highest pixel around a line of one spectrum, None where no line stands out."""
    rest = wavelength_aa / (1 + block.columns["true_redshift"][index])
    near = np.flatnonzero(np.abs(rest - line_aa) < reach_aa)
    if len(near) < 20 or near[0] == 0 or near[-1] == len(rest) - 1:
        return None
    highest = near[np.argmax(block.model[index, near])]
    return rest[highest] if block.model[index, highest] > 1.1 * block.model[index, near].min() else None


@pytest.mark.parametrize(
    ("spectype", "line_aa", "reach_aa", "tolerance_aa"),
    [
        (b"QSO", 2798.75, 30, 6),
        (b"QSO", 1908.73, 30, 8),
        (b"QSO", 1549.06, 40, 14),  # blueshifted by up to 2000 km/s
        (b"GALAXY", 3728.8, 8, 2.5),
        (b"GALAXY", 6564.61, 8, 1.0),
    ],
)
def test_lines_are_where_they_belong_in_vacuum(simulator, block, spectype, line_aa, reach_aa, tolerance_aa):
    usual = (block.columns["spectype"] == spectype) & ~block.columns["is_unusual"]
    found = [peak_near(block, simulator.wavelength_aa, i, line_aa, reach_aa) for i in np.flatnonzero(usual)]
    found = np.array([wavelength for wavelength in found if wavelength is not None])
    assert len(found) > 5
    assert np.median(np.abs(found - line_aa)) < tolerance_aa
    assert (np.abs(found - line_aa) < tolerance_aa).mean() > 0.8


def test_old_galaxies_have_a_break_at_4000_angstrom_and_quasars_none(simulator, block):
    rest = simulator.wavelength_aa / (1 + block.columns["true_redshift"][:, None])

    def break_of(rows):
        red = [block.model[i][(rest[i] > 4000) & (rest[i] < 4100)].mean() for i in rows]
        blue = [block.model[i][(rest[i] > 3850) & (rest[i] < 3950)].mean() for i in rows]
        return np.array(red) / np.array(blue)

    inside = (rest[:, 0] < 3840) & (rest[:, -1] > 4110) & ~block.columns["is_unusual"]
    galaxies = break_of(np.flatnonzero(inside & (block.columns["spectype"] == b"GALAXY")))
    quasars = break_of(np.flatnonzero(inside & (block.columns["spectype"] == b"QSO")))
    assert galaxies.max() > 1.7
    assert np.median(galaxies) > 1.15
    assert np.median(quasars) < 1.05


def test_the_forest_takes_as_much_light_as_is_measured(simulator):
    """Mean transmission near z = 2.5 is 0.80 (Kamble et al. 2020)."""
    from hpctrain.kinds.spectra.simulated.absorbers import add_forest

    transmission = []
    for number in range(150):
        flux = np.ones(7781, np.float32)
        add_forest(flux, simulator.wavelength_aa, 3.0, np.random.default_rng(number))
        transmission.append(np.median(flux[(simulator.wavelength_aa > 4220) & (simulator.wavelength_aa < 4290)].mean()))
    assert np.median(transmission) == pytest.approx(0.80, abs=0.03)


def test_redshifts_cover_the_surveys_range(simulator):
    redshift = np.concatenate([simulator.rows(np.arange(i, i + 64)).columns["true_redshift"] for i in (512, 1024)])
    assert redshift.min() >= 0.01
    assert redshift.max() <= 3.5
    assert np.isfinite(redshift).all()


def test_repeats_are_one_object_seen_twice(block):
    target_id = block.columns["target_id"]
    assert len(np.unique(target_id)) == 256 - 8
    first = np.flatnonzero(target_id == target_id[31])
    assert len(first) == 2
    one, other = block.model[first]
    assert np.allclose(one, other, rtol=1e-4)
    assert not np.allclose(block.flux[first[0]], block.flux[first[1]])


def test_seeds_share_no_object(block):
    other = Simulator(SimulateSection(seed=5, num_pixels=128)).rows(np.arange(256))
    assert not np.intersect1d(block.columns["target_id"], other.columns["target_id"]).size
    assert (block.columns["target_id"] > 0).all()


@pytest.mark.slow
def test_unusual_objects_are_few_and_of_all_kinds():
    simulator = Simulator(SimulateSection(num_pixels=64, seed=9))
    kind = np.concatenate([simulator.rows(np.arange(i, i + 512)).columns["unusual_kind"] for i in range(0, 8192, 512)])
    assert 0.003 < (kind > 0).mean() < 0.01
    assert set(kind) == set(range(len(UNUSUAL_KINDS)))


@pytest.mark.slow
def test_some_pixels_and_some_whole_spectra_are_bad():
    simulator = Simulator(SimulateSection(num_pixels=256, seed=2))
    ivar = np.concatenate([simulator.rows(np.arange(i, i + 512)).ivar for i in range(0, 4096, 512)])
    bad = ivar == 0
    assert 2 <= bad.all(axis=1).sum() <= 40
    assert bad.any(axis=1).mean() > 0.8
    assert bad.mean() < 0.1
    assert np.isfinite(ivar).all()


def test_a_file_is_read_as_it_is_and_a_larger_one_begins_with_a_smaller(tmp_path):
    for name, count in (("small.h5", 70), ("large.h5", 130)):
        seen = []
        simulate(tmp_path / name, SimulateSection(num_spectra=count, num_pixels=200), on_rows=seen.append)
        assert sum(seen) == count
    small, large = (
        open_spectra(SpectraSection(files=[str(tmp_path / name)])).read(np.arange(70))
        for name in ("small.h5", "large.h5")
    )
    assert np.array_equal(small.flux, large.flux)
    assert small.target_id.tolist() == large.target_id.tolist()
    with h5py.File(tmp_path / "small.h5") as file:
        assert file["flux"].chunks is None
        assert file["flux"].attrs["unit"] == "1e-17 erg s-1 cm-2 AA-1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.h5", "small.h5"]


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    path = tmp_path / "s.h5"
    path.write_text("precious")
    section = SimulateSection(num_spectra=3, num_pixels=64)
    with pytest.raises(DataError, match="--overwrite"):
        simulate(path, section)
    assert path.read_text() == "precious"
    simulate(path, section, overwrite=True)
    assert len(open_spectra(SpectraSection(files=[str(path)]))) == 3


def test_an_interrupted_simulation_leaves_nothing(tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "s.h5", SimulateSection(num_spectra=200, num_pixels=64), on_rows=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_file_and_says_so(tmp_path, capsys):
    out = tmp_path / "new" / "s.h5"
    arguments = ["--num-spectra", "20", "--num-pixels", "100", "--seed", "3", "--quasar-fraction", "1"]
    assert main(["simulate", "--out", str(out), *arguments]) == 0
    assert "20 spectra" in capsys.readouterr().out
    with h5py.File(out) as file:
        assert set(file["spectype"][:]) == {b"QSO"}


def test_the_command_names_all_values_that_cannot_be(tmp_path, capsys):
    code = main(["simulate", "--out", str(tmp_path / "s.h5"), "--num-spectra", "0", "--snr-median", "-1"])
    assert code == ProfileError.exit_code
    error = capsys.readouterr().err
    assert "--num-spectra" in error
    assert "--snr-median" in error
