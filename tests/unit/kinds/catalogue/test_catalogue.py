"""Rows of tables as samples: formats, missing values, identifiers, simulated objects."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from astropy.table import Table

from hpctrain.cli import run_command
from hpctrain.errors import DataError
from hpctrain.kinds.catalogue import choose, tables
from hpctrain.kinds.catalogue import inputs as inputs_of_tables
from hpctrain.kinds.catalogue.kind import KIND
from hpctrain.kinds.catalogue.section import CatalogueSection, SimulateCatalogueSection
from hpctrain.kinds.catalogue.simulate import simulate
from hpctrain.kinds.leaks import has_name_of_id, looks_like_id
from hpctrain.profile.check import check_profile
from hpctrain.samples.activity import Activity
from hpctrain.samples.sources import find_sources
from hpctrain.samples.stage import stage
from hpctrain.train.staging import name_originals

COLUMNS = {
    "objid": np.array([7, 8, 9]),
    "g": np.array([20.5, -9999.0, 21.0]),
    "r": np.array([20.0, 19.0, np.nan]),
    "g_err": np.array([0.1, 0.2, -1.0]),
    "kind": np.array(["STAR", "QSO", "STAR"]),
}


def write(folder: Path, form: str) -> Path:
    path = folder / f"objects.{form}"
    if form == "h5":
        with h5py.File(path, "w") as file:
            for name, values in COLUMNS.items():
                file[name] = values.astype("S4") if name == "kind" else values
    elif form == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({name: values.tolist() for name, values in COLUMNS.items()}), path)
    elif form == "fits":
        Table(COLUMNS).write(path)
    else:
        between = "," if form.startswith("csv") else "  "
        rows = [between.join(map(str, row)) for row in zip(*COLUMNS.values(), strict=True)]
        text = "\n".join([("" if form.startswith("csv") else "# ") + between.join(COLUMNS), *rows]) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if form.endswith(".gz") else text.encode())
    return path


def section(path: Path, **keys: object) -> CatalogueSection:
    return CatalogueSection(**{"files": [str(path)], "features": ["g", "r"], **keys})


@pytest.mark.parametrize("form", ["h5", "fits", "parquet", "csv", "csv.gz", "txt"])
def test_every_format_gives_the_same_objects(tmp_path, form):
    data = section(write(tmp_path, form), differences=[("g", "r")], errors={"g": "g_err"}, target_id="objid")
    samples = KIND.open(data)
    nan = np.nan
    expected = [[20.5, 20, 0.5, 0.1], [nan, 19, nan, 0.2], [21, nan, nan, nan]]
    np.testing.assert_allclose(samples.inputs, expected, rtol=1e-6)
    assert samples.names == ("g", "r", "g - r", "g_err")
    assert samples.target_id.tolist() == [7, 8, 9]
    assert samples.column("kind").tolist() == ["STAR", "QSO", "STAR"]
    assert "g 1, r 1, g - r 2, g_err 1" in "".join(samples.notes)


@pytest.mark.parametrize("form", ["fits", "parquet", "csv.gz", "txt"])
def test_a_copy_on_the_disk_of_the_node_gives_the_same_objects(tmp_path, form):
    path = write(tmp_path, form)
    staged = stage(find_sources([str(path)]), tmp_path / "node", Activity())
    [copy] = staged.paths
    assert copy.is_relative_to(tmp_path / "node")
    original, samples = (KIND.open(section(each, target_id="objid")) for each in (path, copy))
    np.testing.assert_array_equal(samples.inputs, original.inputs)
    np.testing.assert_array_equal(samples.column("kind"), original.column("kind"))
    name_originals(samples, {str(copy): str(path)})
    [file] = samples.fingerprint()["files"]
    assert file["copy_of"] == str(path)


def test_a_header_that_names_fewer_columns_than_there_are_is_an_error_and_no_shift(tmp_path):
    path = tmp_path / "shifted.txt"
    path.write_text("#z u g eg\n0.1 19.0 18.0 0.02 0.01\n0.2 19.5 18.2 0.02 0.01\n")
    with pytest.raises(DataError, match=r"line 2: has 5 values, but the header \(line 1\) names 4 columns"):
        KIND.open(section(path, features=["u", "g"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("1,2,3\n4,5,6\n", "the first line must name the columns"),
        ("g,r,g\n1,2,3\n", "the header names g twice"),
        ("g,r\n1,red\n", "r: holds texts such as 'red'"),
        ("g,rmag\n1,2\n", "r: is not in the file"),
    ],
)
def test_a_table_of_text_that_cannot_be_read_says_why(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        KIND.open(section(path))


@pytest.mark.parametrize("form", ["csv.gz", "fits", "h5", "parquet"])
def test_a_file_that_was_cut_off_is_an_error_with_its_name(tmp_path, form):
    path = write(tmp_path, form)
    path.write_bytes(path.read_bytes()[: -(path.stat().st_size // 2)])
    with pytest.raises(DataError, match=path.name):
        KIND.open(section(path))


def test_damaged_bytes_of_a_gzipped_table_are_an_error_with_its_name(tmp_path):
    path = write(tmp_path, "csv.gz")
    content = bytearray(path.read_bytes())
    content[12:30] = b"\xff" * 18
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=path.name):
        KIND.open(section(path))


def test_all_absent_columns_of_all_files_are_named_at_once(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("g\n1\n")
    second.write_text("x\n1\n")
    with pytest.raises(DataError) as caught:
        KIND.open(section(first, files=[str(first), str(second)]))
    assert [line.partition(": is not")[0] for line in str(caught.value).splitlines()] == [
        f"{first}: r",
        f"{second}: g",
        f"{second}: r",
    ]


@pytest.mark.parametrize("form", ["h5", "parquet", "csv"])
def test_a_sample_of_a_large_table_depends_on_the_identifiers_only(tmp_path, monkeypatch, form):
    """Blocks of seven rows stand for those of a million; the second file has the same objects in another order."""
    for module in (tables, choose, inputs_of_tables):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    order, parts = np.random.default_rng(3).permutation(50), []
    for name, rows in (("a", np.arange(50)), ("b", order)):
        columns = {"target_id": rows + 100, "g": rows / 2, "r": rows / 3, "kind": np.array([f"k{row}" for row in rows])}
        path = tmp_path / f"{name}.{form}"
        if form == "h5":
            with h5py.File(path, "w") as file:
                for key, values in columns.items():
                    file[key] = values.astype("S4") if key == "kind" else values
        elif form == "parquet":
            pyarrow = pytest.importorskip("pyarrow")
            from pyarrow import parquet

            parquet.write_table(pyarrow.table({k: v.tolist() for k, v in columns.items()}), path, row_group_size=11)
        else:
            Table(columns).write(path)
        whole, some = KIND.open(section(path)), KIND.open(section(path, max_rows=20))
        np.testing.assert_array_equal(whole.inputs[:, 0], (rows / 2).astype(np.float32))
        chosen = np.flatnonzero(np.isin(whole.target_id, some.target_id))
        assert len(chosen) == len(some) == 20
        np.testing.assert_array_equal(some.inputs, whole.inputs[chosen])
        np.testing.assert_array_equal(some.column("kind"), whole.column("kind")[chosen])
        assert [some.locate(number) for number in range(20)] == [(path, row) for row in chosen.tolist()]
        assert "20 of 50 rows are read" in "".join(some.notes)
        parts.append(set(some.target_id.tolist()))
        assert set(KIND.open(section(path, max_rows=10)).target_id.tolist()) < parts[-1]
    assert parts[0] == parts[1]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_check_says_how_many_objects_fit_into_the_memory_of_a_node(tmp_path, capsys):
    simulate(tmp_path / "data.h5", SimulateCatalogueSection(num_objects=500))
    profile = tmp_path / "profile.yaml"
    model = {"family": "trees", "labels": [{"column": "class", "kind": "class"}]}
    launch = {"gpus_per_node": 0, "memory_gib_per_node": 1e-4}
    data = {"files": [str(tmp_path / "data.h5")], "features": ["g", "r"]}
    profile.write_text(yaml.safe_dump({"name": "small", "launch": launch, "data": data, "model": model}))
    run_command("check", [str(profile)])
    said = capsys.readouterr()
    assert "set data.max_rows: " in said.out + said.err


def test_rows_without_any_value_are_not_usable(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("g,r\n1,2\n-9999,\n99,3\n")
    assert KIND.open(section(path)).usable(np.arange(3)).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("name", "is_id"),
    [("objid", True), ("SPECOBJID", True), ("target_id", True), ("plate", True), ("fiberid", True), ("photo/id", True)]
    + [(name, False) for name in ("u", "modelMag_g", "redshift", "sersic_index_err", "width", "solid")],
)
def test_names_of_identifiers(name, is_id):
    assert has_name_of_id(name) is is_id


def test_different_whole_numbers_look_like_an_identifier():
    assert looks_like_id(np.arange(100)[::-1])
    assert not looks_like_id(np.arange(100) % 7)
    assert not looks_like_id(np.arange(100) + 0.5)
    assert not looks_like_id(np.arange(10))


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_check_names_columns_that_identify_objects_or_are_labels_too(tmp_path, capsys):
    path = tmp_path / "objects.csv"
    rows = [f"{number},{number % 3},{number * 17 + 3},{number % 2}" for number in range(100)]
    path.write_text("\n".join(["specobjid,g,serial,kind", *rows]))
    profile = {
        "name": "leaks",
        "launch": {"gpus_per_node": 0},
        "data": {"files": [str(path)], "features": ["specobjid", "g", "serial"]},
        "model": {"family": "trees", "trees": 10, "labels": [{"column": "kind", "kind": "class"}]},
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(profile))
    assert run_command("check", [str(tmp_path / "p.yaml")]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "data.features.0: 'specobjid' is called like an identifier" in said
    assert "serial: all values are different whole numbers" in said
    profile["data"]["features"].append("kind")
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(profile))
    assert run_command("check", [str(tmp_path / "p.yaml"), "--no-memory"]) == 2
    assert "model.labels.0.column: 'kind' is also an input in data.features" in capsys.readouterr().err


def test_simulated_catalogues_are_those_of_their_seed(tmp_path):
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(tmp_path / name, SimulateCatalogueSection(num_objects=300, seed=seed))
        with h5py.File(tmp_path / name) as file:
            found.append({key: file[key][...] for key in file})
    assert all(np.array_equal(found[0][key], found[1][key]) for key in found[0])
    assert not np.array_equal(found[0]["g"], found[2]["g"])
    assert set(found[0]["class"].tolist()) == {b"GALAXY", b"STAR", b"QSO"}
    assert (found[0]["redshift"][found[0]["class"] == b"STAR"] == 0).all()
    assert 0 < (found[0]["g"] == -9999).sum() < 15
    known = found[0]["g"] != -9999
    assert ((found[0]["g"][known] > 8) & (found[0]["g"][known] < 35)).all()


def test_fluxes_become_asinh_magnitudes_without_extinction(tmp_path):
    flux, error, ebv = np.array([100.0, -0.5, 3.0]), np.array([1.0, 0.4, -1.0]), np.array([0.1, 0.2, np.nan])
    path = tmp_path / "fluxes.h5"
    with h5py.File(path, "w") as file:
        file["flux_g"], file["error_g"], file["ebv"], file["r"] = flux, error, ebv, np.array([17.0, 18.0, 19.0])
    data = section(
        path,
        features=["flux_g", "r"],
        asinh_magnitudes={"flux_g": {"softening": 0.5}},
        extinction={"ebv": "ebv", "coefficients": {"flux_g": "sdss.g", "r": 2.0}},
        differences=[("flux_g", "r")],
        errors={"flux_g": "error_g"},
    )
    inputs = KIND.open(data).inputs
    magnitude = 22.5 - 2.5 / np.log(10) * (np.arcsinh(flux) + np.log(0.5)) - 3.303 * ebv
    red = np.array([17.0, 18.0, 19.0]) - 2.0 * ebv
    expected = [
        magnitude,
        red,
        magnitude - red,
        [2.5 / np.log(10) / np.hypot(100, 1), 0.4 * 1.0857362 / 1.118034, np.nan],
    ]
    np.testing.assert_allclose(inputs, np.stack(expected, axis=1), rtol=1e-6)


def test_check_names_magnitudes_that_are_not_read_and_unknown_bands(tmp_path):
    path = write(tmp_path, "h5")
    data = {
        "files": [str(path)],
        "features": ["g", "r"],
        "asinh_magnitudes": {"u": {"softening": 1.0}},
        "extinction": {"ebv": "g_err", "coefficients": {"g": "sdss.w"}},
    }
    profile = tmp_path / "profile.yaml"
    profile.write_text(yaml.safe_dump({"name": "x", "data": data, "model": {"family": "clusters"}}))
    found = {problem.where: problem.message for problem in check_profile(profile, memory=False).problems}
    assert found.keys() == {"data.asinh_magnitudes.u", "data.extinction.coefficients.g"}
    assert "no extinction coefficient of band 'w' in 'sdss'" in found["data.extinction.coefficients.g"]
