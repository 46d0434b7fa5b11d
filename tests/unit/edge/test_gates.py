"""A gate that should break breaks, in the bin where the harm is, and says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpctrain.edge.gates import (
    FAILED,
    PASSED,
    TOO_FEW,
    Seen,
    failures,
    gate_table,
    judge,
    macro_f1,
    make_bins,
    nearest_classes,
)
from hpctrain.profile.sections.edge import EdgeSection, GatesSection

N = 400


@pytest.fixture
def made():
    """Held-out spectra: signal to noise ratio, redshift, what a network sees of them, true classes."""
    rng = np.random.default_rng(4)
    snr, redshift = rng.uniform(1, 30, N), rng.uniform(0, 3, N)
    latents = rng.normal(size=(N, 4)).astype("f4") * [1, 10, 0.1, 3]
    labels = np.where(latents[:, 0] > 0, "GALAXY", "QSO")
    seen = Seen(latents, rng.chisquare(50, N) / 50, rng.normal(size=N), labels.copy())
    return snr, redshift, seen, labels


def judged(made, after, before=None, edge=None, usable=None, **gates):
    snr, redshift, seen, labels = made
    edge = edge or EdgeSection(gates=GatesSection(**gates))
    bins = make_bins(snr, redshift, edge, np.ones(N, bool) if usable is None else usable)
    return judge(before or seen, before or seen, after, bins, edge.gates, labels)


def test_nothing_breaks_where_nothing_changed(made):
    verdicts = judged(made, made[2])
    assert not failures(verdicts)
    assert {verdict.gate for verdict in verdicts} == {"chi2", "latent_error", "anomaly_rank", "class_f1"}
    assert len(verdicts) == 4 * 9  # all, and four bins each of S/N and of redshift
    assert all(verdict.verdict == PASSED for verdict in verdicts)


def test_harm_to_faint_spectra_alone_is_found_where_it_is(made):
    snr, _, seen, _ = made
    faint = snr < np.quantile(snr, 0.25)
    after = replace(seen, chi2=np.where(faint, seen.chi2 * 1.05, seen.chi2))
    broken = failures(judged(made, after))
    assert {verdict.gate for verdict in broken} == {"chi2"}
    lowest = next(verdict for verdict in broken if verdict.where.startswith("S/N <"))
    assert lowest.found == pytest.approx(0.05)
    assert not any(verdict.where.startswith("S/N >=") for verdict in broken)


def test_latents_are_judged_in_units_of_their_spread(made):
    seen = made[2]
    noise = np.random.default_rng(1).normal(size=seen.latents.shape) * seen.latents.std(axis=0)
    below, above = (replace(seen, latents=seen.latents + factor * noise) for factor in (0.015, 0.03))
    assert not [v for v in failures(judged(made, below)) if v.where == "all"]
    verdict = next(v for v in failures(judged(made, above)) if (v.gate, v.where) == ("latent_error", "all"))
    assert verdict.found == pytest.approx(0.03, rel=0.1)


def test_a_latent_that_never_varies_is_left_out(made):
    seen = made[2]
    dead = replace(seen, latents=np.concatenate([seen.latents, np.zeros((N, 1))], axis=1))
    moved = replace(dead, latents=dead.latents + np.array([0, 0, 0, 0, 1e-9]))
    assert not failures(judged(made, moved, before=dead))


def test_the_order_of_anomalies_must_stay_not_their_scores(made):
    seen = made[2]
    assert not failures(judged(made, replace(seen, anomaly=np.exp(seen.anomaly))))
    mixed = replace(seen, anomaly=seen.anomaly + 0.3 * np.random.default_rng(2).normal(size=N))
    assert {verdict.gate for verdict in failures(judged(made, mixed))} == {"anomaly_rank"}


def test_lost_classes_are_found(made):
    seen, labels = made[2], made[3]
    confused = labels.copy()
    confused[:: N // 40] = "STAR"
    broken = failures(judged(made, replace(seen, class_found=confused)))
    assert {verdict.gate for verdict in broken} == {"class_f1"}
    assert any(verdict.where == "all" for verdict in broken)


def test_what_is_not_a_number_fails(made):
    seen = made[2]
    lost = replace(
        seen,
        latents=np.full_like(seen.latents, np.nan),
        chi2=np.full(N, np.nan),
        anomaly=np.full(N, np.nan),
    )
    verdicts = judged(made, lost)
    assert {v.gate for v in failures(verdicts)} == {"chi2", "latent_error", "anomaly_rank"}
    assert all(v.found is None for v in failures(verdicts))


def test_bins_with_too_few_spectra_are_named_and_not_judged(made):
    snr, _, seen, _ = made
    edge = EdgeSection(snr_edges=[1.5, 29.9], gates=GatesSection(min_spectra=20))
    verdicts = judged(made, replace(seen, chi2=seen.chi2 * 2), edge=edge)
    few = {verdict.where for verdict in verdicts if verdict.verdict == TOO_FEW}
    assert few == {"S/N < 1.5", "S/N >= 29.9"}
    assert all("passed" not in v.to_json() for v in verdicts if v.verdict == TOO_FEW)
    assert f"S/N < 1.5 ({(snr < 1.5).sum()})" in gate_table(verdicts)[-1]


def test_a_gate_set_to_none_judges_nothing(made):
    verdicts = judged(made, made[2], chi2=None, latent_error=None, class_f1=None)
    assert {verdict.gate for verdict in verdicts} == {"anomaly_rank"}


def test_spectra_the_network_could_never_read_belong_to_no_bin(made):
    seen = made[2]
    usable = np.arange(N) % 2 == 0
    after = replace(seen, chi2=np.where(usable, seen.chi2, 1e9))
    verdicts = judged(made, after, usable=usable)
    assert not failures(verdicts)
    assert verdicts[0].num_spectra == N // 2


def test_the_table_names_gate_bin_and_what_was_found(made):
    seen = made[2]
    lines = gate_table(judged(made, replace(seen, chi2=seen.chi2 * 1.1)))
    row = next(line for line in lines if line.startswith("chi2") and "  all  " in line)
    assert "0.1000" in row
    assert "<= 0.02" in row
    assert row.endswith(FAILED)


def test_macro_f1_counts_rare_classes_as_much_as_common_ones():
    true = np.array(["a"] * 98 + ["b"] * 2)
    assert macro_f1(true, true) == 1.0
    assert macro_f1(true, np.array(["a"] * 100)) == pytest.approx((2 * 98 / 198 + 0) / 2)


def test_nearest_classes_do_not_depend_on_the_unit_of_a_latent():
    rng = np.random.default_rng(0)
    train, new = rng.normal(size=(300, 2)), rng.normal(size=(50, 2))
    labels = np.where(train[:, 0] > 0, "x", "y")
    found = nearest_classes(train, labels, new)
    assert (found == np.where(new[:, 0] > 0, "x", "y")).mean() > 0.9
    np.testing.assert_array_equal(nearest_classes(train * [1, 1e4], labels, new * [1, 1e4]), found)
