"""The LaTeX table of a validation has numbers with the digits that their intervals support, and escaped texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpctrain.report.validation_file import read_validation
from hpctrain.validation.latex import escaped, latex_tables, number

METRIC = {"label": "R² [x_y] & 100 %", "unit": "km/s", "better": "low", "n": 12, "num_rows": 12}


@pytest.mark.parametrize(
    ("value", "low", "high", "written"),
    [
        (0.01396, 0.01349, 0.01438, "$0.01396_{-0.00047}^{+0.00042}$"),
        (0.0178739, 0.0160, 0.0197, r"$0.0179_{-0.0019}^{+0.0018}$"),
        (0.50049, 0.40049, 0.60049, r"$0.50 \pm 0.10$"),
        (-2.79, -2.8152, -2.7644, r"$-2.790_{-0.025}^{+0.026}$"),
        (1234.5, 1100.0, 1400.0, "$1234_{-134}^{+166}$"),
        (0.0, 0.0, 0.00076, "$<0.00076$"),
        (1.0, 0.99924, 1.0, "$1.00000_{-0.00076}^{+0.00000}$"),
        (0.25, None, None, "$0.25$"),
        (1.5e-9, None, None, r"$1.500 \times 10^{-9}$"),
        (3.0, 3.0, 3.0, "$3$"),
        (None, None, None, "--"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_supports(value, low, high, written):
    assert number(value, low, high) == written


@given(st.text())
def test_no_character_of_a_text_is_a_command(text):
    written = re.sub(r"\\text[a-z]+\{[0-9]?\}|\\AA\{\}|\$[^$]*\$|\\[&%$#_{}]", "", escaped(text))
    assert not set(written) & set('\\&%$#_{}~^<>|"\n')


def found(**metrics):
    scores = {name: {**METRIC, "better": "lower", "value": 0.5, "low": 0.4, "high": 0.6} for name in metrics}
    return read_validation({
        "format": "hpctrain-validation", "version": 1, "hpctrain_version": "0", "made_at": 0, "run": "a_b/1",
        "family": "trees", "model_sha256": None, "num_rows": 12, "num_objects": 12, "confidence": 0.68, "draws": 100,
        "tasks": {"Z_1": {"kind": "value", "metrics": {name: {**scores[name], **metrics[name]} for name in metrics}}},
    })  # fmt: skip


def test_a_table_has_a_row_per_metric_and_one_per_class_with_equal_numbers_of_cells():
    text = latex_tables(
        found(nmad={}, **{"outliers_0.15": {}, "purity.A&B": {"n": 7}, "f1.A&B": {}, "purity.STAR": {"value": None}})
    )
    first, second = (part.partition(r"\midrule")[2] for part in text.split(r"\begin{tabular}")[1:])
    rows = [line for line in first.splitlines() if line.endswith(r"\\")]
    assert [row.count(" & ") for row in rows[1:]] == [2, 2]
    assert rows[0] == r"\multicolumn{3}{l}{\emph{Z\_1}} \\"
    assert rows[1].startswith(r"R\textsuperscript{2} [x\_y] \& 100 \% [km/s] & $0.50 \pm 0.10$ & 12")
    assert second.strip().splitlines()[:2] == [
        r"A\&B & $0.50 \pm 0.10$ & $0.50 \pm 0.10$ & 7 \\",
        r"STAR & -- & -- & 12 \\",
    ]
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert r"68\,\% intervals" in text


def test_braces_are_balanced():
    text = latex_tables(found(nmad={"label": "{{}"}))
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
