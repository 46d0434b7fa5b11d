"""`hpctrain ingest light-curves`: every format gives the same curves, and nothing is dropped without being counted."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.table import Table

from hpctrain.cli import run_command
from hpctrain.errors import DataError
from hpctrain.ingest.light_curves.periods import periodogram
from hpctrain.kinds.light_curves.kind import KIND
from hpctrain.kinds.light_curves.section import LightCurveSection

ROWS = {
    "object": ["b", "a", "a", "b", "a", "a"],
    "mjd": [3.0, 2.0, 1.0, 1.0, 2.0, 4.0],
    "mag": [20.0, 18.2, 18.1, 20.1, 18.9, 99.0],
    "magerr": [0.2, 0.1, 0.1, 0.2, 0.1, 0.1],
    "filter": ["r", "g", "g", "g", "r", "g"],
    "type": ["Ia", "II", "II", "Ia", "II", "II"],
}
SNANA = """SURVEY: TEST
SNID: {name}
REDSHIFT_FINAL: {redshift} +- 0.001
SNTYPE: Ia   # by eye
VARLIST: MJD FLT FLUXCAL FLUXCALERR
OBS: 2.0 g 100.0 5.0
OBS: 1.0 r -3.0 4.0
END:
"""


def write(folder: Path, form: str) -> Path:
    path = folder / f"points.{form}"
    if form == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(ROWS), path)
    elif form in ("fits", "csv"):
        Table(ROWS).write(path)
    elif form == "xml":
        Table(ROWS).write(path, format="votable")
    elif form == "h5":
        with h5py.File(path, "w") as file:
            for name, values in ROWS.items():
                file[name] = np.array(values).astype("S4") if isinstance(values[0], str) else values
    return path


def ingest(*words: object) -> int:
    return run_command("ingest", ["light-curves", *map(str, words)])


@pytest.mark.parametrize("form", ["csv", "fits", "parquet", "xml", "h5"])
def test_every_format_gives_the_same_curves(tmp_path, form, capsys):
    out, summary = tmp_path / "curves.h5", tmp_path / "summary.json"
    assert ingest(write(tmp_path, form), "--label", "class=type", "--out", out, "--summary", summary) == 0
    with h5py.File(out) as file:
        assert file["object_id"].asstr()[...].tolist() == ["a", "b"]
        assert file["class"].asstr()[...].tolist() == ["II", "Ia"]
        assert file["offsets"][...].tolist() == [0, 3, 5]
        assert file["time"][...].tolist() == [1, 2, 2, 1, 3]
        assert file["value"][...].tolist() == pytest.approx([18.1, 18.2, 18.9, 20.1, 20.0])
        assert file["band"][...].tolist() == [0, 0, 1, 0, 1]
        assert file["value"].attrs["unit"] == "mag"
    assert json.loads(summary.read_text())["dropped"] == {
        "value or error missing (NaN, empty, or a number of --missing)": 1
    }
    said = capsys.readouterr().out
    assert "2 light curves of 5 points" in said
    assert "bands: [g, r]" in said
    assert len(KIND.open(LightCurveSection(files=[str(out)], bands=["g", "r"]))) == 2


def test_unusable_observations_are_counted_by_reason(tmp_path, capsys):
    path = tmp_path / "points.csv"
    lines = ["1,1.0,5,0.1,g", "1,1.0,6,0.1,g", "1,2.0,5,0,g", "1,nan,5,1,g", "1,3.0,5,1,", "2,1.0,1e40,1,g", "1,4,5,,g"]
    path.write_text("\n".join(["id,time,flux,flux_err,band", *lines]))
    assert ingest(path, "--out", tmp_path / "a.h5") == 0
    said = capsys.readouterr().out
    for line in (
        "1 light curves of 1 points",
        "read     7 observations",
        "dropped  6",
        "1  same object, time and band as another point",
        "1  error not above 0",
        "1  time not finite",
        "1  no band",
        "1  value or error infinite",
        "1  value or error missing",
        "1 objects without a usable observation",
    ):
        assert line in said


def test_snana_files_give_a_curve_each_and_their_header_becomes_columns(tmp_path):
    for name, redshift in (("2016W", 0.02), ("2017A", 0.03)):
        (tmp_path / f"{name}.txt").write_text(SNANA.format(name=name, redshift=redshift))
    out = tmp_path / "out" / "curves.h5"
    out.parent.mkdir()
    assert ingest(tmp_path, "--out", out) == 0
    with h5py.File(out) as file:
        assert file["object_id"].asstr()[...].tolist() == ["2016W", "2017A"]
        assert file["redshift_final"][...].tolist() == [0.02, 0.03]
        assert file["sntype"].asstr()[...].tolist() == ["Ia", "Ia"]
        assert file["value"][...].tolist() == [-3, 100, -3, 100]
        assert file["value"].attrs["unit"] == "flux"


def test_alerts_of_one_object_are_merged_and_limits_are_counted(tmp_path, capsys):
    earlier = [
        {"jd": 2459000.5, "fid": 2, "magpsf": 19.5, "sigmapsf": 0.2},
        {"jd": 2458999.5, "fid": 2, "magpsf": None, "sigmapsf": None},
        {"jd": 2458998.5, "fid": 2, "magpsf": 18.0, "sigmapsf": 0.1, "isdiffpos": "f"},
    ]
    last = [{"jd": 2459000.5 + day, "fid": 1, "magpsf": 19.0 - day, "sigmapsf": 0.1} for day in (1, 2)]
    alerts = [
        {"objectId": "ZTF1", "candidate": last[0], "prv_candidates": earlier},
        {"objectId": "ZTF1", "candidate": last[1], "prv_candidates": [*earlier, last[0]]},
    ]
    (tmp_path / "ztf.json").write_text("\n".join(map(json.dumps, alerts)))
    assert ingest(tmp_path / "ztf.json", "--out", tmp_path / "a.h5") == 0
    said = capsys.readouterr().out
    assert "2  upper limit without a detection" in said
    assert "2  fainter than the reference image" in said
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["time"][...].tolist() == [59000, 59001, 59002]
        assert file["value"][...].tolist() == [19.5, 18.0, 17.0]
    source = {"midpointMjdTai": 60000.0, "psfFlux": 100.0, "psfFluxErr": 5.0, "band": "y"}
    forced = {**source, "midpointMjdTai": 59999.0, "psfFlux": -2.0}
    alert = {"diaObject": {"diaObjectId": 7}, "diaSource": source, "prvDiaForcedSources": [forced]}
    (tmp_path / "lsst.json").write_text(json.dumps(alert))
    assert ingest(tmp_path / "lsst.json", "--out", tmp_path / "b.h5") == 0
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["target_id"][...].tolist() == [7]
        assert file["value"][...].tolist() == [-2, 100]


ZTF_SCHEMA = {
    "type": "record",
    "name": "ztf.alert",
    "fields": [
        {"name": "schemavsn", "type": "string"},
        {"name": "objectId", "type": "string"},
        {"name": "candid", "type": "long"},
        {
            "name": "candidate",
            "type": {
                "type": "record",
                "name": "ztf.alert.candidate",
                "fields": [
                    {"name": "jd", "type": "double"},
                    {"name": "fid", "type": "int"},
                    {"name": "magpsf", "type": "float"},
                    {"name": "sigmapsf", "type": "float"},
                    {"name": "isdiffpos", "type": "string"},
                ],
            },
        },
        {
            "name": "prv_candidates",
            "default": None,
            "type": [
                "null",
                {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "ztf.alert.prv_candidate",
                        "fields": [
                            {"name": "jd", "type": "double"},
                            {"name": "fid", "type": "int"},
                            {"name": "magpsf", "type": ["null", "float"], "default": None},
                            {"name": "sigmapsf", "type": ["null", "float"], "default": None},
                            {"name": "isdiffpos", "type": ["null", "string"], "default": None},
                        ],
                    },
                },
            ],
        },
        {"name": "cutoutScience", "type": ["null", "bytes"], "default": None},
    ],
}
"""The alert schema of ZTF, version 3.3, with the fields that a light curve needs and one image."""


def test_alerts_in_avro_are_read_as_those_in_json(tmp_path, capsys):
    fastavro = pytest.importorskip("fastavro")
    point = {"fid": 1, "magpsf": 18.5, "sigmapsf": 0.125, "isdiffpos": "t"}
    limit = {"jd": 2458999.5, "fid": 2, "magpsf": None, "sigmapsf": None, "isdiffpos": None}
    alert = {"schemavsn": "3.3", "objectId": "ZTF1", "candid": 1, "candidate": {**point, "jd": 2459001.5}}
    alert |= {"prv_candidates": [limit, {**point, "jd": 2459000.5}], "cutoutScience": b"\x00" * 4000}
    with open(tmp_path / "1.avro", "wb") as stream:
        fastavro.writer(stream, ZTF_SCHEMA, [alert, {**alert, "objectId": "ZTF2", "prv_candidates": None}], "deflate")
    assert ingest(tmp_path, "--out", tmp_path / "a.h5") == 0
    assert "1  upper limit without a detection" in capsys.readouterr().out
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["object_id"].asstr()[...].tolist() == ["ZTF1", "ZTF2"]
        assert file["time"][...].tolist() == [59000, 59001, 59001]
        assert file["value"][...].tolist() == [18.5] * 3
        assert file["bands"].asstr()[...].tolist() == ["g"]
    whole = (tmp_path / "1.avro").read_bytes()
    (tmp_path / "2.avro").write_bytes(whole[:-100])
    assert ingest(tmp_path / "2.avro", "--out", tmp_path / "b.h5") == 4
    assert "2.avro: cannot be read" in capsys.readouterr().err


def test_a_message_without_its_schema_is_no_avro_file(tmp_path, capsys):
    (tmp_path / "1.avro").write_bytes(b"\x00\x00\x00\x02\xbe" + bytes(100))
    assert ingest(tmp_path / "1.avro", "--out", tmp_path / "a.h5") == 4
    assert "is no Avro file with its schema inside" in capsys.readouterr().err


def test_labels_come_from_a_table_with_a_row_per_object(tmp_path, capsys):
    labels = tmp_path / "labels.csv"
    labels.write_text("name,period,kind\na,0.5,RRAB\nc,1.0,ECL\n")
    assert ingest(write(tmp_path, "csv"), "--labels", labels, "--out", tmp_path / "a.h5") == 0
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["period"][...], [0.5, np.nan])
        assert file["kind"].asstr()[...].tolist() == ["RRAB", ""]
    assert "1 of 2 objects have no row in labels.csv" in capsys.readouterr().out


WRONG = {
    "no column": (["--column", "time=when"], "has no column time=when; it has object, mjd"),
    "a label that differs": (["--label", "mag"], "mag: object a has 18.2 and 18.1; a label is one value per object"),
    "no role": (["--column", "zeit=mjd"], "OURS is id, time, value, error, band"),
    "no error": (["--column", "error=type"], "type: holds a text that is no number"),
    "another table": (["--labels", "LABELS"], "names none of the objects (ours: a; there: x)"),
    "a name of ours": (["--label", "time=type"], "called time, which the file needs for itself"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_one_clear_error(tmp_path, case, capsys):
    words, message = WRONG[case]
    labels = tmp_path / "labels.csv"
    labels.write_text("name,period\nx,0.5\n")
    words = [str(labels) if word == "LABELS" else word for word in words]
    try:
        code = ingest(write(tmp_path, "csv"), *words, "--out", tmp_path / "a.h5")
    except SystemExit as left:  # argparse ends the program
        code = left.code
    assert code in (2, 4)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.h5").exists()


def test_files_without_names_errors_or_bands_say_how_to_give_them(tmp_path, capsys):
    path = tmp_path / "V1234.csv"
    path.write_text("t,mag\n1,10.0\n2,11.0\n")
    assert ingest(path, "--out", tmp_path / "a.h5") == 4
    error = capsys.readouterr().err
    assert "has no column for error, band" in error
    assert "--band NAME" in error
    assert "--assume-error X" in error
    assert ingest(path, "--band", "V", "--assume-error", 0.05, "--out", tmp_path / "a.h5") == 0
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["object_id"].asstr()[...].tolist() == ["V1234"]
        assert file["bands"].asstr()[...].tolist() == ["V"]


def test_real_light_curves_are_read_whole(shared_data, tmp_path):
    folder = shared_data / "light_curves"
    curves, labels = folder / "s82_rrlyrae_lc.csv.gz", folder / "s82_rrlyrae_labels.csv"
    assert ingest(curves, "--labels", labels, "--out", tmp_path / "a.h5") == 0
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(file["target_id"]) == 483
        assert len(file["time"]) == 136196 - 8  # eight points have the time and band of another
        assert np.isfinite(file["Per"][...]).all()


def test_periods_of_several_bands_are_found_together(tmp_path):
    rng, path = np.random.default_rng(1), tmp_path / "points.csv"
    time, band = np.sort(rng.uniform(0, 40, 60)), rng.integers(2, size=60)
    value = 15 + band + 0.5 * np.sin(2 * np.pi * time / 0.731) + 0.02 * rng.normal(size=60)
    rows = [f"1,{t},{v},0.02,{'gr'[b]}" for t, v, b in zip(time, value, band, strict=True)]
    path.write_text("\n".join(["id,mjd,mag,magerr,band", *rows, "2,1,15,0.1,g"]))
    assert ingest(path, "--periods", 0.1, "--out", tmp_path / "a.h5") == 0
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["ls_period"][0] == pytest.approx(0.731, rel=1e-3)
        assert file["ls_power"][0] > 0.95
        assert np.isnan(file["ls_period"][1])


def test_statistics_become_columns_that_a_profile_reads(tmp_path, capsys):
    rng, path, out = np.random.default_rng(1), tmp_path / "points.csv", tmp_path / "a.h5"
    time, band = np.sort(rng.uniform(0, 40, 90)), rng.integers(2, size=90)
    angle = 2 * np.pi * time
    value = 15 + band + 0.5 * np.sin(angle / 0.731) + 0.2 * np.sin(angle / 0.517) + 0.01 * rng.normal(size=90)
    rows = [f"1,{t},{v},0.02,{'gr'[b]}" for t, v, b in zip(time, value, band, strict=True)]
    path.write_text("\n".join(["id,mjd,mag,magerr,band", *rows, "2,1,15,0.1,g"]))
    assert ingest(path, "--periods", 0.1, "--statistics", "--out", out) == 0
    data = LightCurveSection(
        files=[str(out)], bands=["g", "r"], statistics="periodic", features=["ls_power", "stat_mean"]
    )
    samples = KIND.open(data)
    assert len(set(samples.feature_names)) == len(samples.feature_names) == samples.features.shape[1]
    found = dict(zip(samples.feature_names, samples.features[0], strict=True))
    assert np.isfinite(samples.features[0]).all()
    assert f"ls_power 1, {len(found) - 2 + 4} statistics" in capsys.readouterr().out
    assert found["ls_period"] == pytest.approx(0.731, rel=1e-3)
    assert found["stat_period_2"] == pytest.approx(0.517, rel=1e-3)
    assert found["stat_amplitude_1"] == pytest.approx(0.5, abs=0.1)
    assert found["stat_offset_r"] - found["stat_offset_g"] == pytest.approx(1, abs=0.2)
    assert found["stat_mean"] == pytest.approx(value.mean(), rel=1e-6)
    flat = value - np.where(band, value[band == 1].mean(), value[band == 0].mean())
    assert found["stat_standard_deviation"] == pytest.approx(flat.std(ddof=1), rel=1e-4)
    assert found["stat_scatter_g"] == pytest.approx(value[band == 0].std(), rel=1e-4)
    of_short = dict(zip(samples.feature_names, samples.features[1], strict=True))
    assert [name for name, number in of_short.items() if np.isfinite(number)] == ["stat_offset_g", "stat_scatter_g"]


def test_a_file_without_statistics_says_how_to_write_them(tmp_path):
    out = tmp_path / "a.h5"
    assert ingest(write(tmp_path, "csv"), "--out", out) == 0
    with pytest.raises(DataError, match=r"no stat_count and \d+ more columns.* --statistics --periods DAYS"):
        KIND.open(LightCurveSection(files=[str(out)], bands=["g"], statistics="periodic"))


def test_the_periodogram_is_that_of_astropy():
    from astropy.timeseries import LombScargle

    rng = np.random.default_rng(2)
    time, error = np.sort(rng.uniform(0, 300, 80)), rng.uniform(0.05, 0.2, 80)
    value = np.sin(2 * np.pi * time / 3.3) + error * rng.normal(size=80)
    found = periodogram(time, value, error**-2.0, 0.005, 0.0007, 3000)
    frequency = 0.005 + 0.0007 * np.arange(3000)
    np.testing.assert_allclose(found, LombScargle(time, value, error).power(frequency, method="cython"), atol=2e-5)


def test_a_periodogram_that_would_be_too_fine_is_refused_with_a_period_that_is_not(tmp_path, capsys):
    path = tmp_path / "points.csv"
    path.write_text(
        "\n".join(["id,mjd,mag,magerr,band", *(f"1,{day},{15 + day % 300},0.1,g" for day in range(0, 5000, 100))])
    )
    assert ingest(path, "--periods", 0.001, "--out", tmp_path / "a.h5") == 4
    assert "such as --periods 0.012" in capsys.readouterr().err
