"""The blocks that uncertainty adds to validation.json, for a made-up model."""

import json

import numpy as np
import pytest
from judged_parts import NAMES, made_up

from hpctrain.drawing.described.figure import read_figure
from hpctrain.errors import CheckpointError
from hpctrain.families.labels.conformal import FILE, read_conformal
from hpctrain.profile.sections.validate import ValidateSection
from hpctrain.rundir import file_digest
from hpctrain.validation.uncertainty.calibration import add_calibration
from hpctrain.validation.uncertainty.conformal import add_conformal
from hpctrain.validation.validate import finite, write_validation


def test_a_model_that_is_too_sure_has_a_calibration_error_beyond_chance(tmp_path):
    found = add_calibration(made_up(tmp_path), ValidateSection(draws=100))
    task = found["calibration"]["tasks"]["kind"]
    assert task["top_label"]["ece"]["low"] > 2 * task["top_label"]["ece"]["by_chance"]
    assert set(task["classes"]) == set(NAMES)
    central = found["calibration"]["tasks"]["teff"]["central"]
    assert central["error"] < 4 * central["error_by_chance"]
    for figure in json.loads(json.dumps(finite(found["figures"]), allow_nan=False)):
        read_figure(figure)


def test_sets_and_intervals_cover_as_often_as_asked_for_each_class_and_bin(tmp_path):
    section = ValidateSection(
        confidence=0.999, bins=[{"column": "mag", "quantiles": 3}], uncertainty={"conformal": 0.1}
    )
    found = add_conformal(made_up(tmp_path), section)
    block = found["conformal"]
    keys = [read_figure(each).key for each in finite(found["figures"])]
    assert keys == ["kind.conformal", "kind.conformal.mag", "teff.conformal.mag"]
    methods = block["tasks"]["kind"]["methods"]
    for name in NAMES:
        entry = methods["lac_per_class"]["classes"][name]
        assert entry["coverage_low"] < 0.9 < entry["coverage_high"]
    assert methods["lac"]["classes"]["QSO"]["coverage"] < methods["lac_per_class"]["classes"]["QSO"]["coverage"]
    assert methods["lac"]["mean_size"] <= methods["aps"]["mean_size"]
    for each in block["tasks"]["teff"]["methods"]["per_bin.mag"]["bins"]["mag"]:
        assert each["coverage_low"] < 0.9 < each["coverage_high"]
    # the score is |residual| / error - 1, so the threshold is the 90 % quantile of a normal distribution, less 1
    assert block["stored"]["labels"]["teff"]["thresholds"][0][0] == pytest.approx(0.645, abs=0.08)


def test_thresholds_are_stored_only_if_asked_for_and_belong_to_the_weights(tmp_path):
    judged = made_up(tmp_path)
    judged.run.model.mkdir(parents=True)
    judged.run.results.mkdir()
    weights = judged.run.model / "model.safetensors"
    weights.write_bytes(b"weights")
    for asked in (None, 0.2):
        section = ValidateSection(uncertainty={"conformal": asked})
        found = finite({**add_conformal(judged, section), "model_sha256": file_digest(weights)})
        write_validation(judged, found)
        assert (judged.run.model / FILE).is_file() == (asked is not None)
    assert read_conformal(judged.run.model, lambda: file_digest(weights))["miscoverage"] == 0.2
    weights.write_bytes(b"others")
    with pytest.raises(CheckpointError, match="belongs to other weights"):
        read_conformal(judged.run.model, lambda: file_digest(weights))
    (judged.run.model / FILE).write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_conformal(judged.run.model, lambda: file_digest(weights))


def test_one_row_of_each_object_sets_the_threshold(tmp_path):
    judged = made_up(tmp_path, size=400)
    twice = judged.take(np.repeat(np.arange(400), 5))
    block = add_conformal(twice, ValidateSection(uncertainty={"conformal": 0.1}))["conformal"]
    assert block["stored"]["labels"]["teff"]["num_objects"] == [[400]]
