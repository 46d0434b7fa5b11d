"""The JSON Schema in the package is that of the files that validation writes."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest
from made_judged import make_judged

from hpctrain.profile.sections.validate import ValidateSection
from hpctrain.report.validation_file import read_validation
from hpctrain.validation.schema import validation_schema_text
from hpctrain.validation.validate import validate


def test_the_schema_in_the_package_is_current():
    """Make it with: hpctrain schema --validation --out hpctrain/validation/schema.json."""
    text = files("hpctrain.validation").joinpath("schema.json").read_text(encoding="utf-8")
    assert text == validation_schema_text()
    assert json.loads(text)["required"][:4] == ["format", "version", "hpctrain_version", "made_at"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    residual = np.random.default_rng(2).normal(size=400) * 0.02
    residual[:5] = np.nan
    gates = [{"metric": "Z.nmad", "below": 0.1}, {"metric": "Z.none", "below": 0.1}]
    section = ValidateSection.model_validate({"draws": 100, "gates": gates})
    return validate(make_judged(tmp_path_factory.mktemp("run"), residual), section)


def test_what_is_written_fits_the_schema_and_goes_round(found):
    text = json.dumps(found, allow_nan=False)
    values = json.loads(text)
    read = read_validation(values)
    assert read.tasks["Z"].metrics["nmad"].n == 395
    assert [gate.passed for gate in read.gates] == [True, False]
    again = read.model_dump(mode="json", exclude_unset=True)
    assert again == values
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(values, json.loads(validation_schema_text()))


def test_a_file_with_another_judges_block_fits_the_schema_too(found):
    assert read_validation({**found, "planets": {"r": []}}).model_extra["planets"] == {"r": []}
