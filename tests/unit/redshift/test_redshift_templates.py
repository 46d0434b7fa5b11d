"""Files of templates, and how templates are made."""

import h5py
import numpy as np
import pytest
from tiny_templates import TEMPLATES, WAVELENGTH, noisy

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.redshift.build import build_templates
from hpctrain.redshift.choice import templates_for
from hpctrain.redshift.estimate import RedshiftEstimator
from hpctrain.redshift.log_grid import COARSEST_STEP, FINEST_STEP, choose_step
from hpctrain.redshift.templates import load_templates, save_templates
from hpctrain.redshift.training import BIN_WIDTH, LARGEST_SHARE, simulation_for, training_sets


def training_file(path, num=60, seed=1, **columns):
    batch, redshift, number = noisy(num, 10.0, seed)
    with h5py.File(path, "w") as file:
        file["flux"], file["ivar"], file["wavelength"] = batch.flux.numpy(), batch.ivar.numpy(), WAVELENGTH
        file["redshift"], file["target_id"] = redshift, np.arange(num)
        for name, values in ({"spectype": np.array([b"GALAXY", b"QSO"])[number]} | columns).items():
            if values is not None:
                file[name] = values
    return open_spectra(SpectraSection(files=[str(path)]))


def test_templates_come_back_from_their_file(tmp_path):
    save_templates(tmp_path / "t.h5", TEMPLATES)
    found = load_templates(tmp_path / "t.h5")
    assert found.digest == TEMPLATES.digest
    assert found.names == ["GALAXY", "QSO"]
    assert found.provenance == {"made": "by hand"}
    for one, other in zip(found.classes, TEMPLATES.classes, strict=True):
        assert np.array_equal(one.basis, other.basis)
        assert (one.first, one.redshift_min, one.redshift_max) == (other.first, other.redshift_min, other.redshift_max)


def test_another_file_is_refused_with_the_command_that_makes_templates(tmp_path):
    with h5py.File(tmp_path / "spectra.h5", "w") as file:
        file["flux"] = np.ones((2, 3))
    (tmp_path / "text.h5").write_text("no HDF5")
    for name, said in (("spectra.h5", "holds no redshift templates"), ("text.h5", "cannot be read"), ("x", "no such")):
        with pytest.raises(DataError, match=f"{said}.*hpctrain redshift templates"):
            load_templates(tmp_path / name)


def test_a_damaged_or_newer_file_is_refused(tmp_path):
    save_templates(tmp_path / "t.h5", TEMPLATES)
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        file["QSO/basis"][0, 5] += 1e-9
    with pytest.raises(DataError, match="damaged"):
        load_templates(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        file.attrs["format_version"] = 2
    with pytest.raises(DataError, match="format version 2, this hpctrain reads 1"):
        load_templates(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        file.attrs["format_version"] = 1
        del file["QSO/basis"]
    with pytest.raises(DataError, match="cannot be read as a file of templates"):
        load_templates(tmp_path / "t.h5")


def test_templates_made_from_spectra_find_the_redshifts_of_others(tmp_path):
    templates, notes = build_templates([training_file(tmp_path / "train.h5")], num_components=2, num_simulated=0)
    assert notes == []
    assert templates.provenance["spectra"] == {"GALAXY": {"real": 30}, "QSO": {"real": 30}}
    batch, redshift, number = noisy(20, 5.0, seed=2)
    found = RedshiftEstimator(templates)(batch)
    assert found["SPECTYPE"].tolist() == [[b"GALAXY", b"QSO"][each] for each in number]
    assert np.abs((found["Z"] - redshift) / (1 + redshift)).max() < 0.003


def test_only_spectra_with_a_good_redshift_and_a_class_count(tmp_path):
    spectype = np.array([b"GALAXY", b"QSO   "])[np.arange(60) % 2]
    spectype[:4], zwarn = [b"SKY", b"", b"STAR", b"STAR"], np.zeros(60, "i8")
    zwarn[4:8] = [4, 4, -1, 0]
    spectra = training_file(tmp_path / "t.h5", spectype=spectype, zwarn=zwarn)
    templates, notes = build_templates([spectra], num_components=1, num_simulated=0)
    assert templates.provenance["spectra"] == {"GALAXY": {"real": 27}, "QSO": {"real": 27}, "STAR": {"real": 2}}
    assert notes == ["class STAR: 2 spectra are too few for templates (8)"]
    assert templates.names == ["GALAXY", "QSO"]


def test_a_file_without_classes_is_refused(tmp_path):
    spectra = training_file(tmp_path / "t.h5", spectype=None)
    with pytest.raises(DataError, match="templates need a column spectype"):
        build_templates([spectra])


def test_a_class_of_few_spectra_gets_fewer_components(tmp_path):
    templates, _ = build_templates([training_file(tmp_path / "t.h5", num=24)], num_components=5, num_simulated=0)
    assert [len(template.basis) for template in templates.classes] == [3, 3]


def test_without_files_templates_are_made_of_simulated_spectra():
    wavelength = np.linspace(3600.0, 9824.0, 150)
    templates, _ = build_templates([], wavelength_aa=wavelength, num_components=2, num_simulated=40)
    again, _ = build_templates([], wavelength_aa=wavelength, num_components=2, num_simulated=40)
    assert templates.digest == again.digest
    assert templates.names == ["GALAXY", "QSO"]
    assert templates.provenance["simulate"]["num_pixels"] == pytest.approx(150, abs=10)


def test_no_redshift_has_more_than_its_share_of_the_simulated_spectra():
    section = simulation_for(np.linspace(3600.0, 9824.0, 100), 48, seed=3)
    for training in training_sets([], section, 48).values():
        redshift = np.concatenate([batch.redshift.numpy() for batch in training.batches])
        assert 32 <= len(training) <= 48
        assert np.bincount((np.log1p(redshift) / BIN_WIDTH).astype(int)).max() <= LARGEST_SHARE * 48


def test_the_step_is_half_a_pixel_within_limits():
    assert choose_step(np.exp(np.arange(8.2, 9.0, 8e-4))) == pytest.approx(4e-4)
    assert choose_step(np.exp(np.arange(8.2, 9.0, 1e-2))) == COARSEST_STEP
    assert choose_step(np.exp(np.arange(8.2, 9.0, 1e-4))) == FINEST_STEP


def test_templates_are_averaged_over_wider_pixels(tmp_path):
    save_templates(tmp_path / "t.h5", TEMPLATES)
    same, _ = templates_for(tmp_path / "t.h5", WAVELENGTH)
    assert same.digest == TEMPLATES.digest
    wide, _ = templates_for(tmp_path / "t.h5", WAVELENGTH[::5])
    for one, other in zip(wide.classes, TEMPLATES.classes, strict=True):
        assert one.basis.shape == other.basis.shape
        np.testing.assert_allclose(one.basis.sum(axis=1), other.basis.sum(axis=1), rtol=1e-2, atol=1e-6)
    line = TEMPLATES.classes[0].basis[0].argmax()
    assert wide.classes[0].basis[0, line] < 0.95 * TEMPLATES.classes[0].basis[0, line]


def test_templates_that_are_too_coarse_are_noted(tmp_path):
    save_templates(tmp_path / "t.h5", TEMPLATES)
    fine = np.exp(np.arange(8.2, 9.0, 3e-4))
    _, notes = templates_for(tmp_path / "t.h5", fine)
    assert "3.3 times coarser than the spectra" in notes[-1]
