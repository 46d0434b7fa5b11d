"""``hpctrain ingest ... --redshifts estimate``: redshifts that no table has."""

import json

import h5py
import numpy as np
import pytest
from tiny_templates import TEMPLATES, WAVELENGTH, noisy

from hpctrain.cli import main
from hpctrain.redshift.templates import save_templates

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

N, KNOWN, NOISE, SKY = 12, 3, 5, 8


@pytest.fixture
def table(tmp_path):
    """A Parquet table without redshifts but one; one spectrum is noise, one is a sky fibre."""
    batch, truth, number = noisy(N, 6.0, seed=4)
    flux = batch.flux.numpy().copy()
    flux[NOISE] = np.random.default_rng(0).normal(size=flux.shape[1])
    spectype = [("GALAXY", "QSO")[each] for each in number]
    spectype[0], spectype[SKY] = "", "SKY"
    columns = {
        "target_id": list(range(N)),
        "z": [0.4321 if row == KNOWN else -1.0 for row in range(N)],
        "spectype": spectype,
        "wavelength": [WAVELENGTH.tolist()] * N,
        "flux": flux.tolist(),
        "ivar": batch.ivar.numpy().tolist(),
    }
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    save_templates(tmp_path / "templates.h5", TEMPLATES)
    return tmp_path / "table.parquet", tmp_path / "templates.h5", truth


def ingest(path, out, *options):
    return main(["ingest", "parquet", str(path), "--grid", "native", "--keep-sky", "--out", str(out), *options])


def test_missing_redshifts_are_estimated_and_marked(table, tmp_path, capsys):
    path, templates, truth = table
    out = tmp_path / "out.h5"
    assert ingest(path, out, "--redshifts", "estimate", "--redshift-templates", str(templates)) == 0
    with h5py.File(out) as file:
        columns = {
            name: file[name][()] for name in ("redshift", "redshift_error", "redshift_source", "spectype", "zwarn")
        }
        record = json.loads(file.attrs["redshift_estimates"])
    estimated = np.ones(N, dtype=bool)
    estimated[[KNOWN, NOISE, SKY]] = False
    assert columns["redshift"][KNOWN] == 0.4321
    assert np.isnan(columns["redshift"][[NOISE, SKY]]).all()
    assert np.abs((columns["redshift"] - truth) / (1 + truth))[estimated].max() < 0.003
    assert (columns["redshift_error"][estimated] > 0).all()
    assert ((columns["redshift_source"] == b"estimated") == estimated).all()
    assert (columns["zwarn"] == 0)[estimated].all()
    assert columns["spectype"][0] == b"GALAXY"
    assert columns["spectype"][SKY] == b"SKY"
    assert (record["estimated"], record["not_reliable"]) == (9, 1)
    assert record["templates_sha256"] == TEMPLATES.digest
    assert record["templates"] == str(templates)
    printed = capsys.readouterr()
    assert "note     9: redshift estimated (redshift_source says which)" in printed.out
    assert "note     1: no reliable redshift could be estimated; it stays missing" in printed.out
    assert "2 of 12 spectra have no redshift (NaN)" in printed.err


def test_the_estimates_are_those_of_the_command(table, tmp_path):
    path, templates, _ = table
    assert ingest(path, tmp_path / "a.h5", "--redshifts", "estimate", "--redshift-templates", str(templates)) == 0
    assert ingest(path, tmp_path / "b.h5") == 0
    with h5py.File(tmp_path / "b.h5") as file:
        assert "redshift_source" not in file
    arguments = ["--templates", str(templates), "--out", str(tmp_path / "z.h5")]
    assert main(["redshift", str(tmp_path / "b.h5"), *arguments]) == 0
    with h5py.File(tmp_path / "a.h5") as filled, h5py.File(tmp_path / "z.h5") as found:
        rows = filled["redshift_source"][()] == b"estimated"
        np.testing.assert_allclose(filled["redshift"][rows], found["Z"][rows], rtol=1e-6)
        assert (found["ZWARN"][rows] == 0).all()


def test_where_redshifts_are_missing_the_warning_names_the_option(table, tmp_path, capsys):
    assert ingest(table[0], tmp_path / "b.h5") == 0
    assert "--redshifts estimate estimates them from the spectra" in capsys.readouterr().err


def test_options_that_contradict_each_other_are_refused(table, tmp_path, capsys):
    path, templates, _ = table
    out = tmp_path / "out.h5"
    assert ingest(path, out, "--redshifts", "estimate", "--need-redshift", "--zwarn", "good") == 2
    error = capsys.readouterr().err
    assert "--need-redshift: drops spectra before" in error
    assert "--zwarn good: drops spectra before" in error
    assert ingest(path, out, "--redshifts", "zall.fits") == 2
    assert "--redshifts: found zall.fits; only 'estimate' is possible with parquet" in capsys.readouterr().err
    assert ingest(path, out, "--redshift-templates", str(templates)) == 2
    assert "--redshift-templates: needs --redshifts estimate" in capsys.readouterr().err
    assert ingest(path, out, "--redshifts", "estimate", "--redshift-templates", str(path)) == 4
    assert "cannot be read as a file of templates" in capsys.readouterr().err
    assert not out.exists()
