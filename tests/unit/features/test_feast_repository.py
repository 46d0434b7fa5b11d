"""``hpctrain features feast``: the Parquet file and the definitions say the same, and times are right to the second."""

from __future__ import annotations

import ast
import datetime

import h5py
import numpy as np
import pyarrow.parquet
import pytest
import yaml
from astropy.table import Table

from hpctrain.cli import main
from hpctrain.errors import DataError
from hpctrain.features.times import UNDATED, form_of, microseconds, moment

NIGHT = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.timezone.utc)


@pytest.fixture
def epochs(tmp_path):
    """A table of five rows: two of one object at different times, one row without a time, one twice."""
    path = tmp_path / "epochs.h5"
    with h5py.File(path, "w") as file:
        file["target_id"] = np.array([7, 7, 8, 9, 8], dtype=np.int64)
        file["MJD"] = [61370.5, 61371.5, 61370.5, -999.0, 61370.5]
        file["mag"] = np.array([20, 21, np.nan, 19, 18], dtype=">f4")
        file["mag"].attrs.update(unit="mag", description='brightness in the "red" band')
        file["g - r"] = np.arange(5.0)
        file["num_points"] = np.arange(5, dtype=np.uint16)
        file["is_star"] = np.array([True, False, True, False, True])
        file["spectype"] = np.array([b"QSO", b"QSO", b"GALAXY", b"", b"STAR"])
        file["LATENT_VEC"] = np.arange(10, dtype=np.float16).reshape(5, 2)
        file["row"] = np.arange(5)
    return path


def feast(path, out, *words) -> int:
    return main(["features", "feast", str(path), "--out", str(out), *words])


def definitions(out) -> dict[str, ast.Call]:
    """Return the calls that the definitions assign, by the name of the variable."""
    body = ast.parse((out / "features.py").read_text()).body
    return {each.targets[0].id: each.value for each in body if isinstance(each, ast.Assign)}


def keywords(call: ast.Call) -> dict[str, ast.expr]:
    return {each.arg: each.value for each in call.keywords}


def test_the_definitions_name_the_columns_and_types_of_the_file(epochs, tmp_path, capsys):
    out = tmp_path / "store"
    assert feast(epochs, out, "--timestamp", "MJD") == 0
    said = capsys.readouterr().out
    assert "6 features, 4 rows" in said
    assert "left out: 1 rows without a time" in said
    assert "repeated: 1 rows" in said
    table = pyarrow.parquet.read_table(out / "data" / "epochs.parquet")
    fields = {}
    for field in keywords(definitions(out)["view"])["schema"].elts:
        given = keywords(field)
        fields[given["name"].value] = ast.unparse(given["dtype"])
    types = {each.name: str(each.type).replace("item: ", "element: ") for each in table.schema}  # older pyarrow: item
    times = "timestamp[us, tz=UTC]"
    assert types == {
        "target_id": "int64",
        "event_timestamp": times,
        "created_timestamp": times,
        "LATENT_VEC": "list<element: float>",
        "g_r": "double",
        "is_star": "bool",
        "mag": "float",
        "num_points": "int32",
        "spectype": "string",
    }
    assert fields == {
        "LATENT_VEC": "Array(Float32)",
        "g_r": "Float64",
        "is_star": "Bool",
        "mag": "Float32",
        "num_points": "Int32",
        "spectype": "String",
    }
    rows = table.to_pydict()
    assert rows["event_timestamp"] == [NIGHT, NIGHT + datetime.timedelta(days=1), NIGHT, NIGHT]
    assert (rows["target_id"], rows["spectype"]) == ([7, 7, 8, 8], ["QSO", "QSO", "GALAXY", "STAR"])
    assert rows["LATENT_VEC"] == [[0, 1], [2, 3], [4, 5], [8, 9]]
    assert np.isnan(rows["mag"][2])


def test_the_source_is_where_the_definitions_say_and_units_are_kept(epochs, tmp_path):
    out = tmp_path / "store"
    assert feast(epochs, out, "--timestamp", "MJD", "--columns", "mag", "g - r", "--entity", "star", "--ttl", "30") == 0
    given = definitions(out)
    source = {name: value.value for name, value in keywords(given["source"]).items()}
    assert (out / source["path"]).is_file()
    assert (source["timestamp_field"], source["created_timestamp_column"]) == ("event_timestamp", "created_timestamp")
    assert keywords(given["entity"])["name"].value == "star"
    assert ast.unparse(keywords(given["view"])["ttl"]) == "timedelta(days=30)"
    mag, colour = (keywords(field) for field in keywords(given["view"])["schema"].elts)
    assert mag["description"].value == 'brightness in the "red" band'
    assert [ast.literal_eval(each["tags"]) for each in (mag, colour)] == [{"unit": "mag"}, {"column": "g - r"}]
    settings = yaml.safe_load((out / "feature_store.yaml").read_text())
    assert settings["project"] == "epochs"
    assert settings["entity_key_serialization_version"] == 3


def test_several_tables_become_one_source_and_only_its_own_files_are_replaced(epochs, tmp_path, capsys):
    out, later = tmp_path / "store", tmp_path / "later.h5"
    later.write_bytes(epochs.read_bytes())
    words = ["--out", str(out), "--at", "2026-11-26T12:00:00Z", "--columns", "mag"]
    assert main(["features", "feast", str(epochs), str(later), *words]) == 0
    table = pyarrow.parquet.read_table(out / "data" / "epochs.parquet")
    assert (table.num_rows, set(table["event_timestamp"].to_pylist())) == (10, {NIGHT})
    assert main(["features", "feast", str(epochs), *words]) == 2
    assert "is there already; give another folder, or --overwrite" in capsys.readouterr().err
    assert main(["features", "feast", str(epochs), *words, "--overwrite"]) == 0
    (out / "features.py").write_text("mine = 1\n")
    assert main(["features", "feast", str(epochs), *words, "--overwrite"]) == 2
    with h5py.File(later, "r+") as file:
        del file["mag"]
        file["mag"] = np.arange(5)
    assert main(["features", "feast", str(epochs), str(later), "--out", str(tmp_path / "new"), *words[2:]]) == 4
    assert "mag holds Int64 instead of Float32" in capsys.readouterr().err
    assert not (tmp_path / "new" / "features.py").exists()


def test_a_table_of_text_with_dates_and_names_as_identifiers(tmp_path):
    lines = ("star,night,mag", "V838 Mon,2026-11-26T13:00:00+01:00,7", "Mira,2026-11-26 12:00,8")
    (tmp_path / "nights.csv").write_text("\n".join(lines))
    assert feast(tmp_path / "nights.csv", tmp_path / "store", "--id", "star", "--timestamp", "night") == 0
    rows = pyarrow.parquet.read_table(tmp_path / "store" / "data" / "nights.parquet").to_pydict()
    assert (rows["star"], rows["event_timestamp"], rows["mag"]) == (["V838 Mon", "Mira"], [NIGHT, NIGHT], [7, 8])


def test_a_fits_table_keeps_its_units(tmp_path):
    table = Table({"TARGETID": np.arange(3), "JD": [2461371.0] * 3, "flux": np.arange(3.0)}, units={"flux": "Jy"})
    table.write(tmp_path / "radio.fits")
    assert feast(tmp_path / "radio.fits", tmp_path / "store", "--timestamp", "JD") == 0
    (flux,) = keywords(definitions(tmp_path / "store")["view"])["schema"].elts
    assert ast.literal_eval(keywords(flux)["tags"]) == {"unit": "Jy"}
    rows = pyarrow.parquet.read_table(tmp_path / "store" / "data" / "radio.parquet").to_pydict()
    assert set(rows["event_timestamp"]) == {NIGHT}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--timestamp", "mjd"], 4, "mjd: is not in the file"),
        (["--timestamp", "mag"], 4, "add --time-format mjd|jd|unix|iso"),
        (["--id", "TARGET"], 2, "--id: 'TARGET' is not in the file"),
        (["--columns", "magg"], 2, "'magg' is not in the file; did you mean 'mag'?"),
        (["--view", "a__b", "--ttl", "-1", "--at", "soon"], 2, "3 problems"),
        (["--at", "2026-11-26", "--timestamp", "MJD"], 2, "has no meaning with --timestamp"),
        (["--timestamp", "MJD", "--time-format", "unix", "--columns", "mag"], 0, ""),
        (["--timestamp", "MJD", "--time-format", "jd"], 4, "no row has a time"),
    ],
)
def test_wrong_words_are_one_clear_error(epochs, tmp_path, capsys, words, code, said):
    assert feast(epochs, tmp_path / "store", *words) == code
    assert said in capsys.readouterr().err
    assert (tmp_path / "store" / "features.py").exists() == (code == 0)


def test_times_in_all_forms_are_the_same_moment():
    expected = int(NIGHT.timestamp() * 1e6)
    for value, form in ((61370.5, "mjd"), (2461371.0, "jd"), (NIGHT.timestamp(), "unix")):
        assert microseconds(np.array([value, np.nan]), form).tolist() == [expected, UNDATED]
    assert microseconds(np.array(["2026-11-26T12:00:00Z", "", "soon"], object), "iso").tolist()[1:] == [UNDATED] * 2
    assert moment("2026-11-26T13:00:00+01:00") == expected
    assert [form_of(np.array([61370.5]), "epoch", unit) for unit in ("d", "day")] == ["mjd", "mjd"]
    with pytest.raises(DataError, match="does not say how its times are written"):
        form_of(np.array([5.0]), "epoch", "")
