"""``hpctrain ingest`` as a user calls it: what is kept, what is dropped, and what is said about it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from survey_files import cut_gzip, make_desi, make_redshifts, make_sdss, write_fits

from hpctrain.cli import main
from hpctrain.kinds.spectra.grids import sdss_grid


def ingest(*arguments: object) -> int:
    """Call the command and return its exit code."""
    return main(["ingest", *(str(argument) for argument in arguments)])


def read_json(path: Path) -> dict:
    """Return a summary, having checked that every row is accounted for."""
    summary = json.loads(path.read_text())
    assert summary["read"] == summary["kept"] + summary["merged"] + sum(summary["dropped"].values())
    return summary


@pytest.fixture
def plates(tmp_path: Path) -> Path:
    """Return a folder of SDSS files: five good ones (two of one object), sky, dead, a duplicate, and four broken."""
    folder = tmp_path / "spectra"
    (folder / "3586").mkdir(parents=True)
    good = make_sdss(folder, "spec-3586-55181-0001.fits", FIBERID=1)
    make_sdss(folder, "spec-3586-55181-0002.fits", FIBERID=2, PLUG_RA=113.0, loglam0=3.58, ZWARNING=4)
    make_sdss(folder, "spec-3586-55182-0003.fits", FIBERID=3, MJD=55182, PLUG_RA=112.0475, num_pixels=500)
    make_sdss(folder / "3586", "spec-3586-55181-0004.fits", FIBERID=4, PLUG_RA=114.0, CLASS="STAR", Z=-0.0002)
    make_sdss(folder, "spec-3586-55181-0005.fits", FIBERID=5, PLUG_RA=115.0, metadata=False, upper=True)
    make_sdss(folder, "spec-3586-55181-0006.fits", FIBERID=6, ZWARNING=1)
    make_sdss(folder, "spec-3586-55181-0007.fits", FIBERID=7, ivar_zero=tuple(range(400)))
    shutil.copy(good, folder / "3586" / "spec-3586-55181-0001.fits")
    cut_gzip(folder / "spec-9999-55181-0001.fits.gz", good)
    (folder / "spec-9999-55181-0002.fits").touch()
    (folder / "spec-9999-55181-0003.fits").write_text("<html>404 not found</html>")
    (folder / "spec-9999-55181-0004.fits").write_bytes(good.read_bytes()[:9000])
    (folder / "README.txt").write_text("not looked at")
    return folder


def test_good_spectra_are_kept_and_all_others_are_counted_with_their_reason(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "new" / "sdss.h5"
    assert ingest("sdss", plates, "--out", out, "--summary", tmp_path / "s.json") == 0
    summary = read_json(tmp_path / "s.json")
    assert summary["kept"] == 5
    assert summary["objects"] == 4
    assert summary["dropped"] == {
        "sky fibre": 1,
        "no pixel with ivar > 0": 1,
        "same plate-mjd-fibre as an earlier file": 1,
    }
    assert len(summary["failed_files"]) == 4
    printed = capsys.readouterr()
    for text in ("damaged gzip", "is empty", "is not a FITS file", "is cut off"):
        assert text in printed.err
    assert "5 spectra of 4 objects" in printed.out
    assert "1 of 5 spectra have no redshift (NaN) and carry no weight in training, unless the model" in printed.err
    assert "--redshifts estimate" in printed.err
    assert summary["remarks"]["redshift warning (ZWARN is not 0); --zwarn good drops such spectra"] == 1
    assert summary["remarks"]["stars by their class; --spectype QSO,GALAXY drops them"] == 1
    assert summary["skipped"] == {}


def test_the_file_is_laid_out_as_promised(plates: Path, tmp_path: Path) -> None:
    out = tmp_path / "sdss.h5"
    ingest("sdss", plates, "--out", out)
    with h5py.File(out) as file:
        assert file["flux"].shape == file["ivar"].shape == (5, 4681)
        assert file["flux"].dtype == file["ivar"].dtype == np.float32
        assert file["flux"].chunks is None
        assert file["flux"].id.get_offset() is not None
        assert file["flux"].attrs["unit"] == "1e-17 erg s-1 cm-2 AA-1"
        assert file["wavelength"].attrs["unit"] == "AA"
        assert np.array_equal(file["wavelength"][:], sdss_grid())
        assert not file["flux"][:][file["ivar"][:] == 0].any()
        columns = {"target_id", "redshift", "zwarn", "spectype", "ra", "dec", "plate", "mjd", "fiber", "specobjid"}
        assert columns <= set(file)
        assert "healpix" not in file
        # Sorted by path, so that the subfolder comes first; the two epochs of one object share an id.
        ids = dict(zip(file["fiber"][:].tolist(), file["target_id"][:].tolist(), strict=True))
        assert ids[1] == ids[3] == 112047_130351
        assert len({ids[1], ids[2], ids[4], ids[5]}) == 4
        sources = [name.decode() for name in file["provenance/source_files"][:]]
        assert Path(sources[file["source_file"][0]]).name == "spec-3586-55181-0001.fits"
        assert file.attrs["format"] == "hpctrain spectra"
        assert json.loads(file.attrs["counts"])["kept"] == 5
        assert file.attrs["command"]


def test_nothing_is_left_beside_the_output(plates: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    ingest("sdss", plates, "--out", folder / "a.h5")
    assert ingest("sdss", plates / "README.txt", "--out", folder / "b.h5") == 4
    assert [path.name for path in folder.iterdir()] == ["a.h5"]


@pytest.mark.slow
def test_two_workers_write_what_one_writes(plates: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "1.h5", tmp_path / "2.h5"]
    for workers, out in enumerate(outs, start=1):
        assert ingest("sdss", plates, "--out", out, "--workers", workers) == 0
    with h5py.File(outs[0]) as one, h5py.File(outs[1]) as two:
        assert set(one) == set(two)
        for name in set(one) - {"provenance"}:
            assert one[name][:].tobytes() == two[name][:].tobytes(), name


def test_an_existing_file_is_only_replaced_when_asked(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "a.h5"
    out.write_text("years of work")
    assert ingest("sdss", plates, "--out", out) == 4
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "years of work"
    assert ingest("sdss", plates, "--out", out, "--overwrite") == 0
    assert h5py.is_hdf5(out)


def test_a_failed_ingest_leaves_the_old_file_alone(plates: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    out.write_text("years of work")
    assert ingest("sdss", plates / "spec-9999-55181-0002.fits", "--out", out, "--overwrite") == 4
    assert out.read_text() == "years of work"


def test_nothing_kept_says_why_and_exits_4(plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sky, empty = plates / "spec-3586-55181-0006.fits", plates / "spec-9999-55181-0002.fits"
    assert ingest("sdss", sky, empty, "--out", tmp_path / "a.h5") == 4
    error = capsys.readouterr().err
    assert "no spectrum was kept of 1" in error
    assert "1 dropped: sky fibre" in error
    assert "is empty" in error


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent.fits", "no such file or folder"),
        ("*.nothing", "matches no file"),
        ("empty", r"no file below it is named spec-\*.fits"),
    ],
)
def test_sources_that_are_not_there_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture, source: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "other.fits").touch()
    assert ingest("sdss", tmp_path / source, "--out", tmp_path / "a.h5") == 4
    printed = capsys.readouterr().err
    assert "there are no files to read:" in printed
    assert message.replace("\\", "") in printed


def test_one_missing_source_among_good_ones_is_an_error(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert ingest("sdss", plates, tmp_path / "absent", "--out", tmp_path / "a.h5") == 4
    assert "absent: no such file" in capsys.readouterr().err


def test_limit_stops_early(plates: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    assert ingest("sdss", plates, "--out", out, "--limit", 2, "--summary", tmp_path / "s.json") == 0
    assert read_json(tmp_path / "s.json")["kept"] == 2
    with h5py.File(out) as file:
        assert len(file["flux"]) == 2


@pytest.mark.parametrize(
    ("options", "num_kept"),
    [
        (["--zwarn", "good"], 3),
        (["--need-redshift"], 4),
        (["--spectype", "star"], 1),
        (["--keep-sky"], 6),
        (["--min-good-fraction", "0"], 5),
        (["--mask-bits", "any"], 5),
        (["--mask-bits", "+BRIGHTSKY,+LOWFLAT"], 5),
    ],
)
def test_cuts_keep_what_they_say(plates: Path, tmp_path: Path, options: list[str], num_kept: int) -> None:
    assert ingest("sdss", plates, "--out", tmp_path / "a.h5", "--summary", tmp_path / "s.json", *options) == 0
    assert read_json(tmp_path / "s.json")["kept"] == num_kept


def test_a_finer_grid_warns_and_a_grid_elsewhere_keeps_nothing(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert ingest("sdss", plates, "--out", tmp_path / "a.h5", "--grid", "linear:3650:3800:0.4") == 0
    assert "finer than the data" in capsys.readouterr().err
    assert ingest("sdss", plates, "--out", tmp_path / "b.h5", "--grid", "linear:9000:9100:1") == 4
    assert "outside the wavelength grid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--grid", "dezi"], "grid 'dezi': allowed is auto|desi|sdss"),
        (["--mask-bits", "BRIGTHSKY"], "unknown mask bits BRIGTHSKY"),
        (["--limit", "0"], "'0' is not a whole number above 0"),
        (["--min-good-fraction", "2"], "'2' is not a number from 0 to 1"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_read(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as left:
        ingest("sdss", plates, "--out", tmp_path / "a.h5", *options)
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.h5").exists()


def test_a_folder_of_desi_files_reads_coadds_and_leaves_their_spectra(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_desi(tmp_path / "coadd-main-dark-1.fits", [1, 2])
    make_desi(tmp_path / "spectra-main-dark-1.fits", [1, 1, 2])
    make_desi(tmp_path / "spectra-main-dark-2.fits", [3, 3, 4])
    make_redshifts(tmp_path / "redrock-main-dark-1.fits", "REDSHIFTS", {"TARGETID": [1, 2], "Z": [1.0, 2.0]})
    out = tmp_path / "out.h5"
    assert ingest("desi", f"{tmp_path}/*.fits", "--out", out, "--summary", tmp_path / "s.json") == 0
    summary = read_json(tmp_path / "s.json")
    assert (summary["read"], summary["kept"], summary["merged"]) == (5, 4, 1)
    assert len(summary["skipped"]) == 2
    with h5py.File(out) as file:
        assert file["target_id"][:].tolist() == [1, 2, 3, 4]
        assert file["num_exposures"][:].tolist() == [1, 1, 2, 1]
        assert file["redshift"][:2].tolist() == [1.0, 2.0]
    error = capsys.readouterr().err
    assert "2 of 4 spectra have no redshift" in error
    assert "--redshifts TABLE.fits" in error


def test_files_of_a_folder_that_are_skipped_because_of_their_name_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_desi(tmp_path / "coadd-main-dark-1.fits", [1, 2])
    make_desi(tmp_path / "my_coadd_25.fits", [3])
    make_redshifts(tmp_path / "redrock-main-dark-1.fits", "REDSHIFTS", {"TARGETID": [1, 2], "Z": [1.0, 2.0]})
    (tmp_path / "README.txt").touch()
    out = tmp_path / "new" / "out.h5"
    assert ingest("desi", tmp_path, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "skipped  1 file" in printed
    assert f"{tmp_path / 'my_coadd_25.fits'}: its name is not coadd-*.fits" in printed
    assert ingest("desi", tmp_path, tmp_path / "my_coadd_25.fits", "--out", out, "--overwrite") == 0
    with h5py.File(out) as file:
        assert sorted(file["target_id"][:].tolist()) == [1, 2, 3]


def test_many_files_of_another_survey_give_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for number in range(20):
        header = fits.Header({"TELESCOP": "LAMOST"})
        path = tmp_path / f"spec-55859-F5902_sp01-{number:03d}.fits.gz"
        write_fits(path, [fits.PrimaryHDU(np.zeros((5, 100), np.float32), header)])
    assert ingest("sdss", tmp_path, "--out", tmp_path / "out.h5") == 4
    lines = [line for line in capsys.readouterr().err.splitlines() if "LAMOST" in line]
    assert len(lines) == 1
    assert "20 files" in lines[0]
    assert "is a LAMOST spectrum; `hpctrain ingest lamost` reads it" in lines[0]


@pytest.mark.parametrize("survey", ["desi", "multimodal", "parquet"])
def test_broken_files_of_every_survey_are_reported_and_the_others_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture, survey: str
) -> None:
    name = {"desi": "coadd-{}.fits", "multimodal": "{}.hdf5", "parquet": "{}.parquet"}[survey]
    good = tmp_path / name.format("good")
    if survey == "desi":
        make_desi(good, [1, 2])
        cut_gzip(tmp_path / "coadd-gz.fits.gz", good)
    elif survey == "multimodal":
        with h5py.File(good, "w") as file:
            for key, values in {"flux": np.ones((2, 5000)), "ivar": np.ones((2, 5000))}.items():
                file[f"spectrum_{key}"] = values
            file["spectrum_lambda"] = np.tile(4000.0 + np.arange(5000), (2, 1))
            file["object_id"] = [1, 2]
    else:
        pa = pytest.importorskip("pyarrow")
        vectors = [np.linspace(4000, 5000, 3000).tolist()] * 2
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"target_id": [1, 2], "wavelength": vectors, "flux": vectors, "ivar": vectors}), good)
    (tmp_path / name.format("cut")).write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / name.format("empty")).touch()
    (tmp_path / name.format("text")).write_text("<html>404 not found</html>")
    assert ingest(survey, tmp_path, "--out", tmp_path / "out" / "a.h5", "--summary", tmp_path / "s.json") == 0
    summary = read_json(tmp_path / "s.json")
    assert summary["kept"] == 2
    failed = {Path(entry["file"]).name for entry in summary["failed_files"]}
    expected = {name.format(kind) for kind in ("cut", "empty", "text")}
    assert failed == expected | ({"coadd-gz.fits.gz"} if survey == "desi" else set())
    assert "could not be read" in capsys.readouterr().err


def test_the_first_spectrum_decides_an_automatic_grid(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["spectrum_lambda"] = np.tile(5000.0 + np.arange(60) * 1.3, (2, 1)).astype(np.float32)
        file["spectrum_flux"], file["spectrum_ivar"] = np.ones((2, 60)), np.ones((2, 60))
        file["object_id"] = [1, 2]
    out = tmp_path / "out.h5"
    assert ingest("multimodal", tmp_path / "a.hdf5", "--out", out) == 0
    with h5py.File(out) as file:
        assert file.attrs["grid"] == "native (of the first spectrum)"
        assert file["flux"].shape == (2, 60)


@pytest.mark.parametrize("column", ["fluks=x", "flux", "flux="])
def test_a_column_option_without_a_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture, column: str) -> None:
    (tmp_path / "a.hdf5").touch()
    with pytest.raises(SystemExit):
        ingest("multimodal", tmp_path / "a.hdf5", "--out", tmp_path / "a.h5", "--column", column)
    assert "OURS=THEIRS" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_a_clean_error(
    plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert ingest("sdss", plates, "--out", tmp_path / "file" / "a.h5") == 4
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow
def test_all_real_sdss_files_are_ingested(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    assert ingest("sdss", shared_data / "sdss_spec", "--out", out, "--summary", tmp_path / "s.json") == 0
    summary = read_json(tmp_path / "s.json")
    assert (summary["read"], summary["kept"], summary["objects"]) == (186, 178, 171)
    assert summary["dropped"] == {"sky fibre": 8}
    assert summary["failed_files"] == []


@pytest.mark.slow
def test_all_real_desi_files_are_ingested(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "desi_coadd"
    catalogues = sorted(folder.glob("QSO_cat*"))
    sources = [folder / "quasarnp_test_coadd_25.fits.gz", folder]
    summary_path = tmp_path / "s.json"
    arguments = ["--out", tmp_path / "a.h5", "--redshifts", *catalogues, "--summary", summary_path]
    assert ingest("desi", *sources, *arguments) == 0
    summary = read_json(summary_path)
    assert (summary["read"], summary["kept"], summary["failed_files"]) == (44, 40, [])
    assert summary["remarks"]["redshift from --redshifts"] == 12
    assert summary["remarks"]["redshift from the redrock file beside"] == 2
