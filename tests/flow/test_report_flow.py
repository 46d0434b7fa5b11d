"""The report of real runs: what the trainer writes is what the page reads."""

from __future__ import annotations

import re
import shutil
import signal
import sys
from html import unescape
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from attempts import log_of
from small_network import SMALL_NETWORK

from hpctrain.families.spectral_vae.anomaly_reference import REASON
from hpctrain.report.gather import gather_facts
from hpctrain.report.write import write_report
from hpctrain.rundir import RunDir

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "report"))
from large_results import write_results

GAP_AA, END_AA = (5500.0, 6100.0), 9000.0
"""Where nothing is measured: within the spectra, and beyond their red end."""


@pytest.fixture(scope="module")
def survey_file(tmp_path_factory, spectra_file):
    """The small data set with a gap, a red end without data, and the columns of an SDSS catalogue."""
    path = tmp_path_factory.mktemp("survey") / "survey.h5"
    with h5py.File(spectra_file) as source, h5py.File(path, "w") as file:
        columns = {name: source[name][()] for name in source}
        wavelength_aa, num_spectra = source["wavelength"][()], len(source["target_id"])
        in_gap = (wavelength_aa > GAP_AA[0]) & (wavelength_aa < GAP_AA[1])
        columns["ivar"][:, in_gap | (wavelength_aa > END_AA)] = 0.0
        columns["ivar"][:30] = 0.0  # fully masked
        for name, values in columns.items():
            file[name] = values
        rows = np.arange(num_spectra)
        file["plate"], file["mjd"], file["fiber"] = rows + 266, rows + 51600, rows + 1
        file["ra"], file["dec"], file["zwarn"] = 0.5 * rows, 0.1 * rows - 10, rows % 2 * 4
        file["spectype"] = np.full(num_spectra, b"GALAXY", dtype="S8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, survey_file, attempts):
    """A run of three attempts: one told to save and exit, one killed, and one that finished."""
    profile = {
        "name": "real",
        "launch": {"gpus_per_node": 0, "ranks_per_node": 1, "cpus_per_rank": 1, "signal_lead_s": 5},
        "data": {"files": [str(survey_file)], "reader_threads": 1, "split": {"validation": 0.2}},
        "model": SMALL_NETWORK,
        "train": {
            "batch_size": 32, "epochs": 2, "warmup_steps": 5, "log_every_steps": 1, "device": "cpu",
            "evaluate_every_steps": 5,
        },
        "checkpoint": {"every_steps": 3},
        "track": {"tensorboard": False, "figure_every_steps": 10, "num_figures": 4},
    }  # fmt: skip
    run = RunDir.create(tmp_path_factory.mktemp("runs"), "real")
    run.profile.write_text(yaml.safe_dump(profile))
    run.make_folders()
    for number, code in ((signal.SIGUSR2, 75), (signal.SIGKILL, -9), (None, 0)):
        order = {} if number is None else {"cut": {"signal": int(number), "at_update": 5}}
        assert attempts.attempt(run, **order) == [code], log_of(run)
    assert "Warning" not in (run.logs / "server-0.log").read_text()
    return run


@pytest.fixture(scope="module")
def html(run, tmp_path_factory):
    return write_report(run, tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(html):
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html.split("</style>")[1].split("<script>")[0])).split())


def test_the_arrays_of_the_other_tests_are_those_that_the_trainer_writes(run, tmp_path):
    real, made = gather_facts(run).model.results, RunDir(tmp_path / "made")
    made.path.mkdir()
    shutil.copy(run.profile, made.profile)
    write_results(made, num_pixels=300)
    found = gather_facts(made).model.results
    assert (
        real.keys()
        == found.keys()
        == {
            "reconstructions.npz",
            "anomalies.npz",
            "latents.h5",
            "residuals.npz",
        }
    )
    for name in found:
        assert found[name].keys() <= real[name].keys()


def test_mean_and_median_are_side_by_side(run, text):
    evaluation = list(run.read_metrics("eval"))[-1]
    with h5py.File(run.results / "latents.h5") as file:
        median = np.nanmedian(file["RECON_MSE"][:])
    number = f"{evaluation['num_spectra']} held-out spectra have a mean χ² of {evaluation['chi2']:.3g} per pixel"
    assert f"{number} (median {median:.3g})" in text


def test_odd_spectra_have_their_survey_name_position_and_links(run, html, text):
    with np.load(run.results / "anomalies.npz") as stored:
        plate, mjd, fiber = (int(stored[f"survey_{name}"][0]) for name in ("plate", "mjd", "fiber"))
        ra, dec = float(stored["survey_ra"][0]), float(stored["survey_dec"][0])
        assert stored["target_id"][0] == 1000 + plate - 266
    assert f"SDSS {plate:04d}-{mjd}-{fiber:04d}" in text
    assert f"RA {ra:.5f}° Dec {dec:+.5f}°".replace("-", "−") in text
    assert "GALAXY" in text
    links = [unescape(link) for link in re.findall(r'<a href="(https://[^"]+)" target="_blank" rel="noop', html)]
    assert f"https://dr17.sdss.org/optical/spectrum/view?plateid={plate}&mjd={mjd}&fiberid={fiber}" in links
    assert any(link.startswith("https://www.legacysurvey.org/viewer?") for link in links)
    assert any(link.startswith("https://skyserver.sdss.org/") for link in links)


def test_odd_spectra_are_listed_with_score_and_reason(run, html):
    section = html.split('<section id="anomalies">')[1].split("</section>")[0]
    with np.load(run.results / "anomalies.npz") as stored:
        scores, reasons = stored["anomaly_score"], stored["anomaly_reason"]
    rows = section.split("<tbody>")[1].split("</tr>")[:-1]
    assert len(rows) == len(scores)
    for row, score, reason in zip(rows, scores, reasons, strict=True):
        assert f"{score:.2f}" in row
        assert REASON[int(reason)] in row


def test_reconstructed_spectra_have_their_survey_name_too(run, text):
    with np.load(run.results / "reconstructions.npz") as stored:
        row = int(stored["target_id"][0]) - 1000
    assert f"SDSS {row + 266:04d}-{row + 51600}-{row + 1:04d}" in text


def test_nothing_is_drawn_where_there_are_no_data(run, html):
    """The axis ends where the data end, and in a gap the reconstruction is pale."""
    section = html.split('<section id="reconstructions">')[1].split("</section>")[0]
    figure = next(part for part in re.findall(r"<figure.*?</figure>", section, re.DOTALL) if "no valid" not in part)
    low, high = map(float, re.search(r'data-x="(\S+) (\S+) linear"', figure).groups())
    assert high < END_AA + 60
    judged = re.search(r'<path class="line c2" data-name="reconstruction" d="([^"]+)"', figure)[1]
    pale = re.search(r'<path class="line c2 faint" d="([^"]+)"', figure)[1]
    left, _, width, _ = map(float, re.search(r'data-frame="([^"]+)"', figure)[1].split())

    def wavelengths(path):
        x = np.array(re.findall(r"[ML](\S+?) ", path), dtype=float)
        return low + (x - left) / width * (high - low)

    assert not ((wavelengths(judged) > GAP_AA[0] + 40) & (wavelengths(judged) < GAP_AA[1] - 40)).any()
    in_gap = (wavelengths(pale) > GAP_AA[0] - 40) & (wavelengths(pale) < GAP_AA[1] + 40)
    assert in_gap.any()


def test_masked_spectra_are_counted_once_however_many_epochs_read_them(run, text):
    said = re.search(r"(\d+) of (\d+) inspected spectra carry no weight \((\d+): fully masked", text)
    assert said is not None, text
    assert int(said[3]) / int(said[2]) == pytest.approx(0.1, abs=0.05)  # 30 of 300
    assert "spectra read" not in text
    assert text.count("fully masked") == 1


def test_a_killed_attempt_and_lost_steps_are_named(text):
    assert "Attempt 2 ended without a final record" in text
