"""A planted leak of each kind is found in small files, and clean ones raise none; the benchmark has twenty of each."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import yaml
from astropy.coordinates import SkyCoord

from benchmarks import validation_audit as planted
from benchmarks import validation_audit_plants as plants
from hpctrain.cli import main
from hpctrain.errors import DataError
from hpctrain.profile.check import check_profile
from hpctrain.profile.load import dump_profile
from hpctrain.rundir import RunDir, note_test_look
from hpctrain.samples.split import TRAIN
from hpctrain.validation.audit.audit import audit
from hpctrain.validation.audit.rows import open_rows


def catalogue(num: int = 400, seed: int = 1) -> plants.Columns:
    """Return a clean catalogue: magnitudes that follow from brightness and colour, with errors."""
    rng = np.random.default_rng(seed)
    bright, colour = rng.uniform(16, 22, num), rng.normal(0, 0.5, num)
    columns: plants.Columns = {"target_id": rng.permutation(num) * 977 + 2**40}
    for number, band in enumerate(plants.BANDS):
        error = 0.02 + 0.1 * rng.random(num)
        columns[band] = (bright + number * colour / 4 + error * rng.normal(size=num)).astype(np.float32)
        columns[f"{band}_err"] = error.astype(np.float32)
    columns["class"] = np.array([b"STAR", b"GALAXY"])[(colour + 0.3 * rng.normal(size=num) > 0).astype(int)]
    columns["redshift"] = (0.3 + 0.1 * colour + 0.05 * rng.normal(size=num)).astype(np.float32)
    columns["ra"], columns["dec"] = rng.uniform(359, 360, num), rng.uniform(0, 1, num)
    return columns


def spectra(num: int = 60, length: int = 200) -> plants.Columns:
    """Return clean spectra: one shape with lines at several places, and noise."""
    rng = np.random.default_rng(2)
    place = np.linspace(0, 1, length)
    line = np.exp(-0.5 * ((place - rng.uniform(0.2, 0.8, (num, 1))) / 0.02) ** 2)
    sigma = rng.uniform(0.05, 0.3, (num, 1)) * np.ones(length)
    return {
        "flux": (1 + place + line + sigma * rng.normal(size=(num, length))).astype(np.float32),
        "ivar": (1 / sigma**2).astype(np.float32),
        "wavelength": 3600 + 6000 * place,
        "target_id": rng.permutation(num) * 977 + 2**40,
        "redshift": rng.random(num).astype(np.float32),
        "ra": rng.uniform(10, 11, num),
        "dec": rng.uniform(-1, 0, num),
    }


def curves(num: int = 60) -> plants.Columns:
    """Return clean light curves at times that differ."""
    rng = np.random.default_rng(3)
    points = np.empty(num, dtype=object)
    for row in range(num):
        time = np.sort(rng.uniform(0, 300, 40))
        value = 15 + np.sin(time / rng.uniform(1, 5)) + 0.05 * rng.normal(size=40)
        points[row] = np.stack([time, value, np.full(40, 0.05), np.zeros(40)])
    return {
        "points": points,
        "bands": np.array([b"g", b"r"]),
        "target_id": rng.permutation(num) * 977 + 2**40,
        "class": np.array([b"A", b"B"])[rng.integers(0, 2, num)],
    }


def images(num: int = 60, side: int = 12) -> plants.Columns:
    """Return clean images: a blob and noise."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:side, :side] - side / 2
    blob = np.exp(-(x**2 + y**2) / rng.uniform(4, 16, (num, 1, 1)))
    return {
        "image": (10 * blob + rng.normal(size=(num, side, side))).astype(np.float32),
        "ivar": np.ones((num, side, side), np.float32),
        "target_id": rng.permutation(num) * 977 + 2**40,
        "is_lens": rng.integers(0, 2, num),
    }


CLEAN = {"catalogue": catalogue, "spectra": spectra, "light_curves": curves, "images": images}


def codes(tmp_path, kind, columns):
    planted.write(kind, columns, tmp_path / "data.h5")
    return planted.codes(planted.profile_for(kind, tmp_path / "data.h5"))


@pytest.mark.parametrize("kind", CLEAN)
def test_clean_data_of_each_kind_raise_no_finding(tmp_path, kind):
    assert codes(tmp_path, kind, CLEAN[kind]()) == set()


@pytest.mark.parametrize("leak", plants.plants_of("catalogue"))
def test_a_leak_planted_in_a_catalogue_is_found(tmp_path, leak):
    plant, wanted = plants.plants_of("catalogue")[leak]
    columns = catalogue()
    plant(columns, np.random.default_rng(1))
    assert codes(tmp_path, "catalogue", columns) & wanted


@pytest.mark.parametrize("kind", ["spectra", "light_curves", "images"])
@pytest.mark.parametrize("leak", ["copies", "copies, a little noise"])
def test_copies_of_long_samples_are_found(tmp_path, kind, leak, monkeypatch):
    monkeypatch.setattr(plants, "NUM_COPIES", 20)
    plant, wanted = plants.plants_of(kind)[leak]
    columns = CLEAN[kind]()
    plant(columns, np.random.default_rng(1))
    assert codes(tmp_path, kind, columns) == wanted


def test_an_object_of_another_survey_is_found_by_its_position(tmp_path):
    found = planted.another_survey("catalogue", catalogue(), tmp_path, np.random.default_rng(1))
    assert found == {"same-position"}


def test_what_earlier_runs_have_seen_is_found(tmp_path):
    found = planted.other_runs("catalogue", catalogue(), tmp_path)
    assert found == {
        "weights that have seen": True,
        "(clean: weights of the same split)": False,
        "test side looked at": True,
    }


def test_looks_of_trials_of_one_search_are_a_leak_and_not_only_a_suspicion(tmp_path):
    planted.write("catalogue", catalogue(100), tmp_path / "data.h5")
    profile = planted.profile_for("catalogue", tmp_path / "data.h5")
    for number in range(2):
        trial = tmp_path / "runs" / "study" / "20260101-000000-0000" / str(number)
        trial.mkdir(parents=True)
        (trial / "profile.yaml").write_text(dump_profile(profile))
        note_test_look(RunDir(trial), "hpctrain export", 10)
    (trial.parent / "study.yaml").write_text("{}")
    [finding] = [each for each in audit(profile).findings if each.code == "test-in-search"]
    assert finding.severity == "leak"
    assert finding.count == 2


def test_a_folder_that_is_no_run_gets_no_record_of_a_look(tmp_path):
    note_test_look(RunDir(tmp_path), "hpctrain export", 10)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def leaking(tmp_path):
    columns = catalogue(300)
    plants.copies(lambda _: [*plants.BANDS, *plants.ERRORS.values()])(columns, np.random.default_rng(1))
    planted.write("catalogue", columns, tmp_path / "data.h5")
    (tmp_path / "profile.yaml").write_text(dump_profile(planted.profile_for("catalogue", tmp_path / "data.h5")))
    return tmp_path / "profile.yaml"


def test_the_command_names_the_rows_of_a_leak_and_exits_with_seven(leaking, capsys):
    assert main(["audit", str(leaking)]) == 7
    said = capsys.readouterr().out
    assert "leak: " in said
    assert "(data.h5 row " in said
    assert "1 leak, 0 suspicions" in said


def test_the_json_has_what_the_table_has(leaking, capsys):
    assert main(["audit", str(leaking), "--json", "--no-near"]) == 7
    found = json.loads(capsys.readouterr().out)
    assert found["leaks"] == 1
    [leak] = [each for each in found["findings"] if each["severity"] == "leak"]
    assert leak["code"] == "duplicate"
    assert leak["count"] > 0
    assert sum(found["rows"].values()) == 300


def test_a_suspicion_fails_only_a_strict_audit(tmp_path, capsys):
    columns = catalogue(200)
    columns["target_id"][:60] = -1
    planted.write("catalogue", columns, tmp_path / "data.h5")
    (tmp_path / "profile.yaml").write_text(dump_profile(planted.profile_for("catalogue", tmp_path / "data.h5")))
    assert main(["audit", str(tmp_path / "profile.yaml")]) == 0
    assert main(["audit", str(tmp_path / "profile.yaml"), "--strict"]) == 7
    assert "60 rows have the identifier -1" in capsys.readouterr().out


def test_a_radius_that_is_not_positive_is_refused_with_its_key(leaking, capsys):
    assert main(["audit", str(leaking), "--radius-arcsec", "-1"]) == 2
    assert "validate.audit.radius_arcsec" in capsys.readouterr().err


def test_an_accepted_column_is_not_named_again(tmp_path):
    columns = catalogue()
    plants.label_with_noise(columns, np.random.default_rng(1))
    planted.write("catalogue", columns, tmp_path / "data.h5")
    allow = {"validate": {"audit": {"allow": ["u_err"]}}}
    assert planted.codes(planted.profile_for("catalogue", tmp_path / "data.h5", **allow)) == set()


def test_data_that_have_yet_to_be_simulated_are_refused(tmp_path):
    with pytest.raises(DataError, match="nothing to audit"):
        audit(planted.profile_for("catalogue", tmp_path / "absent.h5"))


def test_a_named_column_of_positions_that_is_absent_is_an_error(tmp_path):
    planted.write("catalogue", catalogue(100), tmp_path / "data.h5")
    profile = planted.profile_for("catalogue", tmp_path / "data.h5", validate={"audit": {"ra": "alpha"}})
    with pytest.raises(DataError, match="alpha"):
        audit(profile)


def test_positions_may_be_texts_of_hours_and_degrees(tmp_path):
    columns = catalogue(200)
    plants.close_positions(columns, np.random.default_rng(1))
    places = SkyCoord(columns["ra"], columns["dec"], unit="deg")
    columns["ra"] = places.ra.to_string("hour", sep=":", precision=3).astype(bytes)
    columns["dec"] = places.dec.to_string("deg", sep=":", precision=2, alwayssign=True).astype(bytes)
    assert codes(tmp_path, "catalogue", columns) == {"same-position"}


def test_training_rows_that_the_profile_leaves_out_are_on_no_side(tmp_path):
    planted.write("catalogue", catalogue(200), tmp_path / "data.h5")
    rows = open_rows(planted.profile_for("catalogue", tmp_path / "data.h5", data={"max_objects": 50}))
    assert (rows.side == TRAIN).sum() == 50


def test_a_name_that_holds_the_label_is_named_by_check(tmp_path, capsys):
    columns = catalogue(200)
    columns["redshift_err"] = columns["redshift"] * 0
    planted.write("catalogue", columns, tmp_path / "data.h5")
    profile = planted.profile_for("catalogue", tmp_path / "data.h5")
    values = yaml.safe_load(dump_profile(profile))
    values["data"]["features"].append("redshift_err")
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(values))
    assert main(["check", str(tmp_path / "profile.yaml"), "--no-memory"]) == 0
    said = capsys.readouterr().err
    assert "'redshift_err' is named after the label 'redshift'" in said
    assert "'z_err'" not in said


@pytest.mark.parametrize(("salt", "is_named"), [("another", True), ("hpctrain", False)])
def test_weights_of_a_run_that_has_split_the_files_in_another_way_are_named_by_check(tmp_path, salt, is_named):
    planted.write("catalogue", catalogue(100), tmp_path / "data.h5")
    run = tmp_path / "earlier"
    (run / "model").mkdir(parents=True)
    earlier = planted.profile_for("catalogue", tmp_path / "data.h5", data={"split": {**planted.SPLIT, "salt": salt}})
    (run / "profile.yaml").write_text(dump_profile(earlier))
    profile = planted.profile_for("catalogue", tmp_path / "data.h5", train={"init_from": str(run)})
    said = [warning.message for warning in check_profile(profile, memory=False).warnings]
    assert any("trained on objects that are held out here" in message for message in said) == is_named


def test_real_copies_of_stars_with_two_classes_are_found(shared_data, tmp_path):
    """Ten stars of this set are listed twice, under another number and class."""
    import gzip

    with gzip.open(shared_data / "variable_stars/debosscher_1392.csv.gz", "rt") as stream:
        lines = stream.read().splitlines()[1:]
    wanted = {"100161338", "100148402", "100161329", "100148038", "100148010", "100148021"}
    found: dict[str, list[list[float]]] = {name: [] for name in sorted(wanted)}
    for line in lines:
        name, *_, time, value, error = line.split(",")
        if name in found:
            found[name].append([float(time), float(value), float(error), 0.0])
    points = np.empty(len(found), dtype=object)
    points[:] = [np.array(each).T for each in found.values()]
    columns = {
        "points": points,
        "bands": np.array([b"g"]),
        "target_id": np.array([int(name) for name in found]),
        "class": np.array([b"A", b"B"] * 3),
    }
    planted.write("light_curves", columns, tmp_path / "data.h5")
    split = {"split": {"validation": 0.5, "salt": _salt_that_parts(columns["target_id"])}}
    report = audit(planted.profile_for("light_curves", tmp_path / "data.h5", data=split))
    [leak] = [each for each in report.findings if each.severity == "leak"]
    assert (leak.code, leak.count) == ("duplicate", 2)


def _salt_that_parts(ids: np.ndarray) -> str:
    """Return a salt that puts the copies on other sides than what they are copies of."""
    from hpctrain.profile.sections.data import SplitSection
    from hpctrain.samples.split import assign_split

    for salt in map(str, range(100)):
        side = dict(zip(ids.tolist(), assign_split(ids, SplitSection(validation=0.5, salt=salt)), strict=True))
        if side[100161338] != side[100148402] and side[100161329] != side[100148038]:
            return salt
    raise AssertionError("no salt parts them")


def test_the_file_with_a_copy_may_be_another_than_that_of_its_original(tmp_path):
    columns = catalogue(100)
    other = {name: values.copy() for name, values in columns.items()}
    other["target_id"] += 1
    for name, part in (("a", columns), ("b", other)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for column, values in part.items():
                file[column] = values
    report = audit(planted.profile_for("catalogue", tmp_path / "a.h5", tmp_path / "b.h5"))
    [copies] = [each for each in report.findings if each.code == "duplicate"]
    assert "(a.h5 row " in copies.examples[0]
    assert "(b.h5 row " in copies.examples[0]
