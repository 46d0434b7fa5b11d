"""Things to know: what the page says about a run whose numbers need a second look, and what to do."""

import re
from html import unescape

import numpy as np
import pytest
from large_results import make_scores, make_spectra, write_results
from real_run import STOPPED_AT, begun, tell, write_records

from hpctrain.errors import ProfileError
from hpctrain.metrics.events import EvaluationEmpty, Failed, Finished, GpuMissing, ProfileChanged
from hpctrain.metrics.read import read_history
from hpctrain.monitor.ledger import Ledger, read_ledgers
from hpctrain.report.caveats import caveats_of
from hpctrain.report.gather import gather_facts
from hpctrain.report.machine import machine_section
from hpctrain.report.text import cut
from hpctrain.report.write import write_example, write_report

ERROR = "size mismatch for encoder.mean.weight: copying a param with shape torch.Size([6, 32]) from checkpoint, " * 4


def caveats(run):
    return " ".join(" ".join(caveats_of(gather_facts(run))).replace("\u202f", " ").split())


def page_of(run):
    html = write_report(run).read_text(encoding="utf-8")
    return html, " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def of_kind(run, kind):
    """Return a record of the real run, to be changed."""
    return next(run.read_metrics(kind))


def test_a_changed_profile_is_named_and_marked_on_the_curves_where_it_changed(real_run, tmp_path):
    run = begun(real_run, tmp_path, step=STOPPED_AT)
    changes = [{"key": "train.learning_rate", "old": 0.003, "new": 0.001}]
    tell(run, ProfileChanged(changes=changes), 4, attempt=2)
    assert "changed when the run resumed at step 4: train.learning_rate: 0.003 → 0.001" in caveats(run)
    html, text = page_of(run)
    assert "resumed with a changed profile" in text
    frame, low, high, place = re.search(
        r'data-frame="(\S+ \S+ \S+) \S+" data-x="(\S+) (\S+) linear".*?<path class="change" d="M(\S+) ', html, re.DOTALL
    ).groups()
    left, _, width = map(float, frame.split())
    assert float(place) == pytest.approx(left + width * (4 - float(low)) / (float(high) - float(low)), abs=1)


def test_overfitting_is_named_with_the_numbers_and_what_to_do(run, real_run):
    train, evaluation = of_kind(real_run, "train"), of_kind(real_run, "eval")
    records = []
    for step in range(10, 501, 10):
        records.append({**train, "step": step, "loss": 0.77})
        if step % 100 == 0:
            records.append({**evaluation, "step": step, "loss": 1.0 + step / 400, "chi2": 2.0})
    write_records(run, records)
    said = caveats(run)
    assert "validation loss (2.25) is 2.9 times the training loss (0.77)" in said
    assert "lowest at step 100 (1.25) and has risen to 2.25" in said
    assert "model.dropout" in said
    assert "train.early_stopping" in said


def test_a_run_that_generalises_has_nothing_to_know(real_run, tmp_path):
    run = begun(real_run, tmp_path, step=STOPPED_AT - 1)
    (finished,) = [event for event in read_history(real_run).events if isinstance(event, Finished)]
    tell(run, finished, STOPPED_AT - 1)
    assert caveats(run) == ""


def test_a_gpu_that_was_asked_for_and_not_used_stands_first(run):
    tell(run, Failed(error="x", exit_code=4), 0)
    tell(run, GpuMissing(gpus_per_node=4, reason="no driver"), 0)
    assert caveats_of(gather_facts(run))[0].startswith("The profile asks for GPUs, but the run used the CPU")


def test_an_evaluation_without_a_usable_spectrum_says_nothing(run, real_run):
    tell(run, EvaluationEmpty(counts={"num_spectra": 12}, reasons={}), 300)
    assert "One evaluation had no usable held-out spectrum, at step 300" in caveats(run)
    empty = {"step": 400, "loss": 0.0, "chi2": 0.0, "num_spectra": 0}  # as older versions recorded it
    write_records(run, [*run.read_metrics(), {**of_kind(real_run, "eval"), **empty}])
    assert "2 evaluations had no usable held-out spectrum, the first at step 300" in caveats(run)
    _, text = page_of(run)
    assert "χ² per pixel – not evaluated yet" in text


@pytest.mark.parametrize(("number", "told"), [(19, True), (20, False)])
def test_too_few_held_out_spectra_are_called_too_few(run, real_run, number, told):
    write_records(run, [{**of_kind(real_run, "eval"), "num_spectra": number}])
    assert ("Only 19 held-out spectra" in caveats(run)) is told


def test_an_error_of_somebody_elses_program_takes_one_line_and_is_told_once(run):
    for number in (1, 2, 3):
        tell(run, Failed(error=f"{ERROR}\nmore", exit_code=5), 0, attempt=number)
    html, text = page_of(run)
    assert f"Attempts 1, 2 and 3 failed: {cut(ERROR)}" in text
    assert cut(ERROR).endswith("…")
    assert len(cut(ERROR)) <= 160
    assert ERROR not in unescape(html)
    assert "hpctrain logs" in text


def test_an_attempt_that_did_no_step_says_so(run):
    tell(run, Failed(error="no such file", exit_code=4), 0)
    _, text = page_of(run)
    assert "none no such file" in text
    assert "0 – 0" not in text


def test_lost_steps_are_those_of_the_attempt_that_did_them(finished):
    """Between the attempt that was killed and the one that resumed there is another one, which failed at once."""
    before = [attempt.steps_lost for attempt in gather_facts(finished).attempts]
    assert before[1] > before[0] == before[2] == 0
    records = [r for r in finished.read_metrics() if r["attempt"] < 3]
    failed = Failed(error="no room", exit_code=5).at(records[-1]["step"], records[-1]["time"], 3).whole_record()
    records += [failed, *({**r, "attempt": 4} for r in finished.read_metrics() if r["attempt"] == 3)]
    write_records(finished, records)
    (finished.attempts / "0003.json").rename(finished.attempts / "0004.json")
    assert [attempt.steps_lost for attempt in gather_facts(finished).attempts] == [0, before[1], 0, 0]


def test_every_bar_of_the_time_line_has_its_number_and_a_sign_that_needs_no_colour(finished):
    html, _ = page_of(finished)
    wide = html.split('<section id="attempts">')[1].split('class="on-phone"')[0]
    assert re.findall(r'<text class="(?:bar-label|mark)"[^>]*>(\d [^<])</text>', wide) == ["1 ■", "2 ✕", "3 ✓"]


def test_a_narrow_bar_has_its_label_above(real_run, tmp_path):
    run = begun(real_run, tmp_path, step=STOPPED_AT - 1)
    records = list(run.read_metrics())
    failed = Failed(error="x", exit_code=4).at(0, records[0]["time"], 1).whole_record()
    later = [{**record, "attempt": 2, "time": record["time"] + 5000 + 500 * record["step"]} for record in records]
    write_records(run, [failed, *later])
    html, _ = page_of(run)
    assert re.search(r'<text class="mark"[^>]*>1 ✕</text>', html)


def test_a_table_of_ranks_has_no_column_of_dashes(run):
    for rank in range(2):
        ledger = Ledger(run, rank, 1, "node1")
        ledger.write(5, {"gpu_temperature_c": 61.0}, {"measured_s": 9.0}, 5.0)
    html = machine_section([], [], read_ledgers(run), 10)
    assert re.findall(r"<th>(.*?)</th>", html) == ["Rank", "Host", "Hottest"]


def test_a_table_of_ranks_that_report_nothing_is_not_there(run):
    Ledger(run, 0, 1, "laptop").write(5, {"cpu_utilisation_percent": 90.0}, {"measured_s": 9.0}, 5.0)
    assert "<table" not in machine_section([], [], read_ledgers(run), 10)


@pytest.mark.parametrize("nasty", [b'"><script>alert(1)</script>', b"javascript:alert(1)", b"\x1b[31m\x00"])
def test_nothing_in_a_survey_column_becomes_markup_or_a_link(run, nasty):
    write_results(run, num_spectra=1, num_pixels=300)
    columns = {name: np.array([nasty] * 3) for name in ("survey_ra", "survey_plate", "survey_spectype", "survey_mjd")}
    np.savez(run.results / "anomalies.npz", **make_spectra(3, 300), **make_scores(), **columns)
    html, _ = page_of(run)
    assert html.count("<script") == 1
    assert "javascript:" not in re.findall(r'href="([^"]*)"', html)
    assert all(link.startswith(("#", "https://")) for link in re.findall(r'href="([^"]*)"', html))


def test_profile_and_provenance_are_folded(finished):
    html, _ = page_of(finished)
    assert "<details open" not in html
    assert html.index("<details") < html.index("<pre")


def test_a_report_that_cannot_be_written_names_the_option_that_helps(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProfileError, match="--out"):
        write_report(run, tmp_path / "file" / "report.html")


def test_one_spectrum_stands_alone_as_an_svg_file(run, tmp_path):
    with pytest.raises(ProfileError, match="there is no drawing of a held-out spectrum"):
        write_example(run, tmp_path / "spectrum.svg")
    write_results(run, num_spectra=3, num_pixels=300)
    svg = write_example(run, tmp_path / "spectrum.svg").read_text(encoding="utf-8")
    assert "<title>Held out: object" in svg
    assert "prefers-color-scheme: dark" in svg
