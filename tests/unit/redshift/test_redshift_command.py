"""``hpctrain redshift`` and ``hpctrain redshift templates`` as a user calls them."""

import json

import h5py
import numpy as np
import pytest
from tiny_templates import STEP, TEMPLATES, WAVELENGTH, noisy

from hpctrain.cli import main
from hpctrain.redshift.catalogue import COLUMNS
from hpctrain.redshift.templates import Templates, load_templates, save_templates

N = 30


def redshift(*arguments) -> int:
    return main(["redshift", *(str(argument) for argument in arguments)])


@pytest.fixture
def spectra(tmp_path):
    """A file of spectra without redshifts, one of which has no pixel, with columns of a survey."""
    batch, truth, number = noisy(N, 6.0, seed=3)
    ivar = batch.ivar.numpy().copy()
    ivar[4] = 0
    with h5py.File(tmp_path / "spectra.h5", "w") as file:
        file["flux"], file["ivar"], file["wavelength"] = batch.flux.numpy(), ivar, WAVELENGTH
        file["target_id"] = np.arange(N) + 10**15
        file["ra"], file["truth"] = np.linspace(0, 359, N), truth
        file["ra"].attrs["unit"] = "deg"
        file["spectype"] = np.array([b"GALAXY", b"QSO"])[number]
    return tmp_path / "spectra.h5"


@pytest.fixture
def templates(tmp_path):
    save_templates(tmp_path / "templates.h5", TEMPLATES)
    return tmp_path / "templates.h5"


def test_each_spectrum_gets_a_row_with_the_columns_of_the_survey(spectra, templates, tmp_path, capsys):
    out = tmp_path / "z.h5"
    assert redshift(spectra, "--templates", templates, "--out", out, "--batch-size", 8) == 0
    with h5py.File(out) as file:
        table = {name: file[name][()] for name in file}
        units = {name: file[name].attrs["unit"] for name in ("NPIXELS", "COEFF", "ra")}
        described = all(file[name].attrs["description"] for name in [*COLUMNS, "PZ_EDGES"])
        attributes = dict(file.attrs)
    assert set(table) == {*COLUMNS, "PZ_EDGES", "ra", "truth", "spectype"}
    assert units == {"NPIXELS": "pixel", "COEFF": "unit of the input flux", "ra": "deg"}
    assert described
    good = np.delete(np.arange(N), 4)
    assert np.abs(table["Z"] - table["truth"])[good].max() < 0.003
    assert np.array_equal(table["SPECTYPE"][good], table["spectype"][good])
    assert table["target_id"][0] == 10**15
    assert np.isnan(table["Z"][4])
    assert attributes["templates_sha256"] == TEMPLATES.digest
    assert json.loads(attributes["templates_provenance"]) == {"made": "by hand"}
    printed = capsys.readouterr().out
    assert "redshifts of 30 spectra" in printed
    assert "29  without a warning (14 GALAXY, 15 QSO)" in printed
    assert "1  NODATA: no pixel with weight" in printed
    assert "columns copied from the input: ra, spectype, truth" in printed


def test_a_redshift_in_the_file_is_copied_and_changes_nothing(spectra, templates, tmp_path):
    assert redshift(spectra, "--templates", templates, "--out", tmp_path / "without.h5") == 0
    with h5py.File(spectra, "r+") as file:
        file["redshift"] = np.where(np.arange(N) % 3, np.nan, 7.0)
    assert redshift(spectra, "--templates", templates, "--out", tmp_path / "with.h5") == 0
    with h5py.File(tmp_path / "without.h5") as one, h5py.File(tmp_path / "with.h5") as other:
        assert set(other) - set(one) == {"redshift"}
        for name in one:
            np.testing.assert_array_equal(one[name][()], other[name][()], err_msg=name)


def test_columns_may_have_other_names(spectra, templates, tmp_path, capsys):
    with h5py.File(spectra, "r+") as file:
        file.move("flux", "spectrum_flux")
    arguments = (spectra, "--templates", templates, "--out", tmp_path / "z.h5")
    assert redshift(*arguments) == 4
    assert "flux: is not in the file; set data.columns.flux: spectrum_flux" in capsys.readouterr().err
    assert redshift(*arguments, "--column", "flux=spectrum_flux") == 0
    assert redshift(*arguments, "--overwrite", "--column", "redshift=x") == 2
    assert "NAME one of flux, ivar, mask, wavelength, target_id" in capsys.readouterr().err


def test_templates_are_made_from_a_file_and_used(spectra, tmp_path, capsys):
    batch, truth, number = noisy(60, 10.0, seed=8)
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["flux"], file["ivar"], file["wavelength"] = batch.flux.numpy(), batch.ivar.numpy(), WAVELENGTH
        file["redshift"], file["target_id"] = truth, np.arange(60)
        file["spectype"] = np.array([b"GALAXY", b"QSO"])[number]
    made = tmp_path / "made.h5"
    options = ("--components", 2, "--simulated", 0)
    assert redshift("templates", tmp_path / "train.h5", "--out", made, *options) == 0
    printed = capsys.readouterr().out
    assert "templates of 2 classes" in printed
    assert "GALAXY   2 components from 30 real spectra; redshifts " in printed
    assert load_templates(made).provenance["files"] == [str(tmp_path / "train.h5")]
    assert redshift(spectra, "--templates", made, "--out", tmp_path / "z.h5") == 0
    with h5py.File(tmp_path / "z.h5") as file:
        assert np.nanmax(np.abs(file["Z"][()] - file["truth"][()]) / (1 + file["truth"][()])) < 0.003


def test_mistakes_are_told_at_once(spectra, templates, tmp_path, capsys):
    out = tmp_path / "z.h5"
    out.touch()
    assert redshift(spectra, "--templates", templates, "--out", out) == 4
    assert "exists" in capsys.readouterr().err
    assert redshift(spectra, "--components", 3, "--seed", 1, "--out", tmp_path / "y.h5") == 2
    error = capsys.readouterr().err
    assert "--components: is an option of `hpctrain redshift templates`" in error
    assert "--seed: is an option of `hpctrain redshift templates`" in error
    assert redshift("templates", "--batch-size", 3, "--out", tmp_path / "y.h5") == 2
    assert "--batch-size: is an option of the search" in capsys.readouterr().err
    assert redshift("templates", "--simulated", 0, "--out", tmp_path / "y.h5") == 2
    assert "leaves nothing to make templates from" in capsys.readouterr().err
    assert redshift(spectra, "--templates", spectra, "--out", tmp_path / "y.h5") == 4
    assert "holds no redshift templates" in capsys.readouterr().err
    assert not (tmp_path / "y.h5").exists()


def test_a_search_beyond_the_templates_is_not_a_mistake(spectra, tmp_path):
    """Quasars only: the galaxies get a warning, or at least a large chi-square."""
    save_templates(tmp_path / "q.h5", Templates(STEP, STEP, TEMPLATES.classes[1:]))
    assert redshift(spectra, "--templates", tmp_path / "q.h5", "--out", tmp_path / "z.h5") == 0
    with h5py.File(tmp_path / "z.h5") as file:
        reduced = file["CHI2"][()] / file["NPIXELS"][()]
        is_galaxy = file["spectype"][()] == b"GALAXY"
        assert np.isinf(file["DELTACHI2_CLASS"][0])
    assert np.nanmedian(reduced[is_galaxy]) > 1.3 * np.nanmedian(reduced[~is_galaxy])
