"""The page in every state a run can be in: it must always be written, be honest, and load nothing."""

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from large_results import write_results
from real_run import DESCRIPTION, STOPPED_AT, beat, begun, tell, write_records

from hpctrain.commands import report as command
from hpctrain.errors import ProfileError
from hpctrain.launch.history import append_history, read_history
from hpctrain.metrics.events import CheckpointRejected, Diverged, Failed
from hpctrain.report.write import write_report
from hpctrain.rundir import RunDir, write_json

VOID = {"meta", "link", "br", "img", "input", "hr", "path", "rect", "circle"}


class Page(HTMLParser):
    """Check the nesting while collecting what the tests ask for."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.counts, self.links, self.ids, self.texts = [], {}, [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.links += [value for name, value in attributes if name in ("src", "href", "action", "data", "poster")]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag
        elif tag in ("path", "rect", "circle"):
            pass

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())  # thin spaces become plain ones


def page_of(run, now=None):
    return Page(write_report(run, now=now).read_text(encoding="utf-8"))


def total_steps(run):
    return next(record["total_steps"] for record in run.read_metrics() if record.get("event") == "started")


@pytest.mark.slow
def test_a_finished_run_says_its_result_in_one_sentence(finished):
    text = page_of(finished).text
    last = list(finished.read_metrics("eval"))[-1]
    assert f"{total_steps(finished)} steps in 3 attempts" in text
    assert f"{last['num_spectra']} held-out spectra have a mean χ² of {last['chi2']:.3g} per pixel (median " in text


def test_all_sections_are_there_and_reachable(finished):
    page = page_of(finished)
    panels = ["reconstructions", "anomalies", "fit", "latents"]
    sections = ["training", "attempts", "machine", *panels, "profile", "provenance", "advice"]
    assert [key for key in page.ids if not key.startswith("clip")] == sections
    assert [link for link in page.links if link.startswith("#")] == [f"#{key}" for key in sections]


@pytest.mark.slow
def test_nothing_is_loaded_from_anywhere(finished):
    """A compute node's report is read on a laptop in a train: no network, no file beside it."""
    text = write_report(finished).read_text(encoding="utf-8")
    page = Page(text)
    assert all(link.startswith("#") for link in page.links)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]
    assert "default-src 'none'" in text


@pytest.mark.slow
def test_what_a_profile_contains_never_becomes_markup(finished):
    text = write_report(finished).read_text(encoding="utf-8")
    assert Page(text).counts["script"] == 1
    assert escape(DESCRIPTION) in text


@pytest.mark.parametrize(
    "nasty", ["</style><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "$name ${x} $$"]
)
def test_nothing_anybody_wrote_becomes_markup(real_run, tmp_path, nasty):
    run = begun(real_run, tmp_path, step=5, change=lambda record: spoilt(record, nasty, keep=("kind", "event")))
    for path in (run.job, run.provenance):
        write_json(path, spoilt(json.loads(path.read_text()), nasty))
    run.profile.write_text(f"description: {nasty}\n{nasty}\nname: {nasty} # {nasty}\n")
    run.script.write_text(f"#SBATCH {nasty}\n# {nasty}\n{nasty}\n")
    tell(run, CheckpointRejected(path=nasty, reason=nasty), 5)
    tell(run, Failed(error=nasty, exit_code=4), 5)
    page = page_of(run)
    assert page.counts["script"] == 1
    assert page.counts.get("img", 0) == 0
    assert " ".join(nasty.split()) in page.text


def spoilt(value, nasty, keep=()):
    """Return a JSON value in which every text is another one."""
    if isinstance(value, dict):
        return {key: item if key in keep else spoilt(item, nasty) for key, item in value.items()}
    if isinstance(value, list):
        return [spoilt(item, nasty) for item in value]
    return nasty if isinstance(value, str) else value


@pytest.mark.slow
def test_attempts_say_why_they_ended_and_what_was_lost(finished):
    text = page_of(finished).text
    lost = [record["steps_lost"] for record in finished.read_metrics() if record.get("event") == "resumed"]
    assert "USR2 exit code 75, requeued" in text
    assert "killed by SIGKILL exit code 137, requeued" in text
    assert lost[1] > 0
    assert f"{lost[1]} steps lost" in text


@pytest.mark.slow
def test_what_went_wrong_stands_at_the_top(finished):
    text = page_of(finished).text
    (rejected,) = [record for record in finished.read_metrics() if record.get("event") == "checkpoint_rejected"]
    name = "/".join(Path(rejected["path"]).parts[-2:])
    assert re.search(rf"[2-9] things to know Attempt 3: checkpoint \S*{name} rejected", text)
    assert "Attempt 2 ended without a final record at step " in text


@pytest.mark.slow
def test_a_long_run_gives_a_small_page(finished):
    """100,000 updates, figures of spectra of DESI's length, all latents: still an attachment, not a download."""
    records = list(finished.read_metrics())
    train = [record for record in records if record["kind"] == "train"]
    for step in range(40, 100_001, 10):
        records.append({**train[step // 10 % len(train)], "step": step, "time": records[-1]["time"] + 1})
    write_records(finished, records)
    write_results(finished, num_spectra=20)
    assert write_report(finished).stat().st_size < 2_050_000


def test_a_submitted_run_has_a_page(run):
    page = page_of(run)
    assert "No attempt has started yet" in page.text
    assert "Nothing has been recorded yet." in page.text
    assert "pending" in page.text


def test_an_empty_directory_with_a_profile_has_a_page(tmp_path):
    run = RunDir(tmp_path / "x" / "y")
    run.path.mkdir(parents=True)
    run.profile.write_text("name: x\n")
    assert "No attempt has started yet" in page_of(run).text


def test_a_crash_before_the_first_record_is_told(real_run, tmp_path):
    text = page_of(begun(real_run, tmp_path, step=0)).text
    assert "Lost: no heartbeat since step 0" in text
    assert "Attempt 1 ended without a final record at step 0" in text


def test_a_running_run_says_how_long_it_will_take(real_run, tmp_path):
    run = begun(real_run, tmp_path, step=6)
    now = beat(run, real_run) + 5
    text = page_of(run, now).text
    assert re.search(rf"At step 6 of {total_steps(run)}, about \d+ (s|min \d\d s) left\.", text)
    assert "without a final record" not in text


def test_a_run_whose_heartbeat_is_old_counts_as_gone(real_run, tmp_path):
    run = begun(real_run, tmp_path, step=6)
    now = beat(run, real_run) + 3600
    assert f"Lost: no heartbeat since step 6 of {total_steps(run)}" in page_of(run, now).text


def test_a_run_that_waits_for_the_queue_says_so(real_run, tmp_path):
    run = begun(real_run, tmp_path, step=STOPPED_AT)
    assert f"Stopped at step {STOPPED_AT} of {total_steps(run)} (USR2), saved, and queued again." in page_of(run).text


@pytest.mark.parametrize(
    ("followed", "told"),
    [
        ("requeued", "(USR2), saved, and queued again."),
        ("terminated", "(USR2), by scancel, an administrator or the time limit; it can be resumed."),
        ("no-progress", "(USR2), not requeued: the last attempts made no progress; it can be resumed."),
    ],
)
def test_what_the_batch_script_did_next_is_told(real_run, tmp_path, followed, told):
    run = begun(real_run, tmp_path, step=STOPPED_AT)
    (run.attempts / "ended.tsv").write_text("torn\t4711\n")
    append_history(run, replace(read_history(real_run)[0], followed=followed))
    assert f"Stopped at step {STOPPED_AT} of {total_steps(run)} {told}" in page_of(run).text


def test_a_killed_attempt_that_was_requeued_waits(real_run, tmp_path):
    run = begun(real_run, tmp_path, step=6)
    append_history(run, replace(read_history(real_run)[0], exit_code=137))
    text = page_of(run).text
    assert f"Stopped at step 6 of {total_steps(run)} (killed by SIGKILL) and queued again." in text


def test_a_failed_run_says_with_what(real_run, tmp_path):
    run = begun(real_run, tmp_path, step=6)
    tell(run, Failed(error="data/qso.h5: row 77 cannot be read\nmore", exit_code=4), 6)
    text = page_of(run).text
    assert f"Failed at step 6 of {total_steps(run)}: data/qso.h5: row 77 cannot be read" in text
    assert "exit code 4" in text


def test_a_diverged_run_names_the_objects(real_run, tmp_path):
    run = begun(real_run, tmp_path, step=6)
    tell(run, Diverged(quantity="loss", objects=[39627835576420141], batch=[39627835576420141]), 7)
    tell(run, Failed(error="step 7: the loss is not finite", exit_code=6), 7)
    text = page_of(run).text
    assert "The loss or a gradient was not finite" in text
    assert "39627835576420141" in text


@pytest.mark.parametrize(
    "losses", [[None], [None, None, None], [0.5], [0.5, 0.5], [-1.0, 2.0, None, 3.0], [1e-300, 1e300]]
)
def test_any_losses_can_be_drawn(real_run, tmp_path, losses):
    run = begun(real_run, tmp_path, step=5)
    records = list(run.read_metrics())
    train, evaluation = (next(r for r in records if r["kind"] == kind) for kind in ("train", "eval"))
    for step, loss in enumerate(losses, 6):
        lost = {"loss": loss, **({"nonfinite": ["loss"]} if loss is None else {})}
        records += [{**train, "step": step, **lost}, {**evaluation, "step": step, **lost, "chi2": None}]
    write_records(run, [r for r in records if r["kind"] == "event" or r["step"] > 5])
    page = page_of(run)
    assert ("not finite (loss)" in page.text) == (None in losses)
    assert not re.search(r"\b(nan|inf)\b", write_report(run).read_text(encoding="utf-8").split("<script>")[0])


def test_results_that_cannot_be_read_are_named_not_fatal(finished):
    (finished.results / "reconstructions.npz").write_bytes(b"PK\x03\x04 torn")
    np.savez(finished.results / "anomalies.npz", flux=np.zeros((1, 5)))
    (finished.results / "latents.h5").write_bytes(b"no HDF5")
    text = page_of(finished).text
    assert "Results/reconstructions.npz cannot be read" in text
    assert "Results/anomalies.npz lacks wavelength_aa, ivar" in text
    assert "Results/latents.h5 cannot be read" in text


def test_an_npz_with_a_pickle_inside_is_refused(finished, tmp_path):
    """Loading a pickle runs whatever it says; a report must be safe to write for anybody's run."""
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(canary),)

    np.savez(finished.results / "anomalies.npz", flux=np.array([Bomb()], dtype=object))
    assert "Results/anomalies.npz cannot be read" in page_of(finished).text
    assert not canary.exists()


def test_spectra_on_grids_of_their_own_and_without_valid_pixels_are_drawn(finished):
    with np.load(finished.results / "reconstructions.npz") as stored:
        arrays = dict(stored)
    arrays["wavelength_aa"] = np.stack([arrays["wavelength_aa"], arrays["wavelength_aa"] + 300])
    arrays["ivar"][1] = 0
    arrays["redshift"][1] = np.nan
    np.savez(finished.results / "reconstructions.npz", **arrays)
    assert "no valid pixel" in page_of(finished).text


@pytest.mark.slow
def test_hundreds_of_attempts_stay_readable(real_run, tmp_path):
    run = begun(real_run, tmp_path, step=STOPPED_AT)
    (lease,) = [json.loads(path.read_text()) for path in run.attempts.glob("*.json")]
    stopped = list(run.read_metrics())[-1]
    train = list(run.read_metrics("train"))[-1]
    assert stopped["event"] == "stopped"
    records = []
    for number in range(1, 301):
        at = {"attempt": number, "step": number, "time": train["time"] + 100 * number}
        write_json(run.attempts / f"{number:04d}.json", {**lease, "attempt": number, "started_at": at["time"] - 50})
        records += [{**train, **at}, {**stopped, **at}]
    write_records(run, records)
    page = page_of(run)
    assert "240 attempts in between are not shown." in page.text
    assert page.counts["tr"] < 80


def test_the_command_writes_where_it_is_told_and_prints_the_path(finished, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    out = tmp_path / "new folder" / "r.html"
    assert command.run(parser.parse_args([str(finished.path), "--out", str(out)])) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_time_line_stands_alone_as_an_svg_file(finished, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    out = tmp_path / "line.svg"
    assert command.run(parser.parse_args([str(finished.path), "--timeline", str(out)])) == 0
    assert capsys.readouterr().out.strip() == str(out)
    root = ElementTree.parse(out).getroot()
    assert finished.name in root.findtext("{http://www.w3.org/2000/svg}title")
    assert "prefers-color-scheme: dark" in root.findtext("{http://www.w3.org/2000/svg}style")


def test_a_run_that_never_began_has_no_time_line(tmp_path):
    (tmp_path / "profile.yaml").write_text("name: x\n")
    with pytest.raises(ProfileError, match="no attempt has begun"):
        command.run(
            argparse.Namespace(
                run_dir=str(tmp_path), runs_dir=tmp_path / "runs", out=None, timeline="x.svg", open=False
            )
        )


@pytest.mark.parametrize("make", [False, True])
def test_a_directory_that_is_no_run_is_refused(tmp_path, make):
    path = tmp_path / "nothing"
    if make:
        path.mkdir()
    with pytest.raises(ProfileError, match=r"this folder has no profile\.yaml|there are no runs in"):
        command.run(
            argparse.Namespace(run_dir=str(path), runs_dir=tmp_path / "runs", out=None, timeline=None, open=False)
        )
    assert not (path / "report.html").exists()


def test_a_report_needs_no_torch(finished):
    code = (
        "import sys; from hpctrain.report.write import write_report; from hpctrain.rundir import RunDir; "
        "write_report(RunDir(sys.argv[1])); sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(finished.path)], check=False).returncode == 0
