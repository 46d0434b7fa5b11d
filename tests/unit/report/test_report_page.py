"""The page in every state a run can be in: it must always be written, be honest, and load nothing."""

import argparse
import json
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from run_on_disk import START, Recorder, record_training, write_results, write_run, write_submission

from hpctrain.commands import report as command
from hpctrain.errors import ProfileError
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


def page_of(run, now=START + 50_000):
    return Page(write_report(run, now=now).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "desi_vae" / "20261117-101640-7f3a")
    write_submission(run)
    return run


@pytest.mark.slow
def test_a_finished_run_says_its_result_in_one_sentence(finished):
    page = page_of(finished)
    assert "18 000 steps in 3 attempts" in page.text
    assert re.search(r"9700 held-out spectra have a mean χ² of 1\.0\d per pixel \(median 1\.0\d\)\.", page.text)


def test_all_sections_are_there_and_reachable(finished):
    page = page_of(finished)
    sections = ["training", "attempts", "machine", "reconstructions", "anomalies", "latents", "profile", "provenance"]
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
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in text


@pytest.mark.parametrize(
    "nasty", ["</style><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "$name ${x} $$"]
)
def test_nothing_anybody_wrote_becomes_markup(run, nasty):
    write_json(run.job, {"name": nasty, "cluster": nasty, "submitted_at": START})
    write_json(
        run.provenance, {"host": nasty, "command": [nasty], "packages": {nasty: nasty}, "data": [{"path": nasty}]}
    )
    run.profile.write_text(f"description: {nasty}\n{nasty}\nname: {nasty} # {nasty}\n")
    run.script.write_text(f"#SBATCH {nasty}\n# {nasty}\n{nasty}\n")
    recorder = Recorder(run, 1, START)
    recorder.event("started", 0, device=nasty, hosts=[nasty], job_id=nasty, total_steps=10)
    recorder.event("checkpoint_rejected", 0, path=nasty, reason=nasty)
    recorder.event("failed", 0, error=nasty, exit_code=4)
    page = page_of(run)
    assert page.counts["script"] == 1
    assert page.counts.get("img", 0) == 0
    assert " ".join(nasty.split()) in page.text


@pytest.mark.slow
def test_attempts_say_why_they_ended_and_what_was_lost(finished):
    text = page_of(finished).text
    assert "SIGUSR2, the time limit exit code 75, requeued" in text
    assert "killed by SIGKILL exit code 137, requeued" in text
    assert "400 steps lost" in text


@pytest.mark.slow
def test_what_went_wrong_stands_at_the_top(finished):
    text = page_of(finished).text
    assert "2 things to know Attempt 3: checkpoint checkpoints/step-00012400 rejected" in text
    assert "Attempt 2 ended without a final record at step 12 400" in text


@pytest.mark.slow
def test_a_long_run_gives_a_small_page(tmp_path):
    """100,000 updates, eight figures of spectra, all latents: still an attachment, not a download."""
    run = write_run(tmp_path, results=False)
    with open(run.metrics, "a", encoding="ascii") as stream:
        for step in range(18_010, 100_001, 10):
            loss = 0.51 + 0.02 * math.sin(step)
            record = {
                "kind": "train",
                "step": step,
                "time": START + step,
                "attempt": 3,
                "loss": loss,
                "grad_norm": loss,
            }
            stream.write(json.dumps({**record, "lr": 1e-4, "samples_per_s": 1600 + 100 * loss}) + "\n")
    write_results(run, num_spectra=20)
    assert write_report(run).stat().st_size < 2_000_000


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


def test_a_crash_before_the_first_record_is_told(run):
    Recorder(run, 1, START)
    text = page_of(run).text
    assert "Lost: no heartbeat since step 0" in text
    assert "Attempt 1 ended without a final record at step 0" in text


def test_a_running_run_says_how_long_it_will_take(run):
    recorder = Recorder(run, 1, START)
    record_training(recorder, 0, 4500)
    beat = {"rank": 0, "attempt": 1, "step": 4500, "state": "training", "interval_s": 10.0, "time": recorder.time}
    write_json(run.heartbeat(0), beat)
    text = page_of(run, now=recorder.time + 5).text
    assert re.search(r"At step 4500 of 18 000, about 1 h \d\d min left\.", text)
    assert "without a final record" not in text


def test_a_run_whose_heartbeat_is_old_counts_as_gone(run):
    recorder = Recorder(run, 1, START)
    record_training(recorder, 0, 900)
    beat = {"rank": 0, "attempt": 1, "step": 900, "state": "training", "interval_s": 10.0, "time": recorder.time}
    write_json(run.heartbeat(0), beat)
    assert "Lost: no heartbeat since step 900 of 18 000" in page_of(run, now=recorder.time + 3600).text


def test_a_run_that_waits_for_the_queue_says_so(run):
    recorder = Recorder(run, 1, START)
    record_training(recorder, 0, 900)
    recorder.event("stopped", 900, cause="SIGTERM", exit_code=75)
    assert "Stopped at step 900 of 18 000 (SIGTERM), saved, and queued again." in page_of(run).text


@pytest.mark.parametrize(
    ("code", "followed", "told"),
    [
        (75, "requeued", "Stopped at step 900 of 18 000 (SIGTERM), saved, and queued again."),
        (75, "terminated", "(SIGTERM), by scancel, an administrator or the time limit; it can be resumed."),
        (75, "no-progress", "(SIGTERM), not requeued: the last attempts made no progress; it can be resumed."),
    ],
)
def test_what_the_batch_script_did_next_is_told(run, code, followed, told):
    recorder = Recorder(run, 1, START)
    record_training(recorder, 0, 900)
    recorder.event("stopped", 900, cause="SIGTERM", exit_code=code)
    line = f"{recorder.time:.0f}\t4711\t0\t{code}\tnone\tstep-00000900\t{followed}\n"
    (run.attempts / "ended.tsv").write_text(f"torn\t4711\n{line}")
    assert told in page_of(run).text


def test_a_killed_attempt_that_was_requeued_waits(run):
    recorder = Recorder(run, 1, START)
    record_training(recorder, 0, 900)
    (run.attempts / "ended.tsv").write_text(f"{recorder.time:.0f}\t4711\t0\t137\tnone\tnone\trequeued\n")
    assert "Stopped at step 900 of 18 000 (killed by SIGKILL) and queued again." in page_of(run).text


def test_a_failed_run_says_with_what(run):
    recorder = Recorder(run, 1, START)
    record_training(recorder, 0, 100)
    recorder.event("failed", 100, error="data/qso.h5: row 77 cannot be read\nmore", exit_code=4)
    text = page_of(run).text
    assert "Failed at step 100 of 18 000: data/qso.h5: row 77 cannot be read" in text
    assert "exit code 4" in text


def test_a_diverged_run_names_the_objects(run):
    recorder = Recorder(run, 1, START)
    record_training(recorder, 0, 100)
    recorder.event("diverged", 101, objects=[39627835576420141])
    recorder.event("failed", 101, error="step 101: the loss is not finite", exit_code=6)
    text = page_of(run).text
    assert "The loss or a gradient was not finite" in text
    assert "39627835576420141" in text


@pytest.mark.parametrize(
    "losses", [[None], [None, None, None], [0.5], [0.5, 0.5], [-1.0, 2.0, None, 3.0], [1e-300, 1e300]]
)
def test_any_losses_can_be_drawn(run, losses):
    recorder = Recorder(run, 1, START)
    for step, loss in enumerate(losses, 1):
        recorder.write("train", step, loss=loss, **({"nonfinite": ["loss"]} if loss is None else {}))
        recorder.write("eval", step, loss=loss, chi2=None)
    page = page_of(run)
    assert ("not finite (loss)" in page.text) == (None in losses)
    assert not re.search(r"\b(nan|inf)\b", write_report(run).read_text(encoding="utf-8").split("<script>")[0])


def test_results_that_cannot_be_read_are_named_not_fatal(run):
    run.results.mkdir()
    (run.results / "reconstructions.npz").write_bytes(b"PK\x03\x04 torn")
    np.savez(run.results / "anomalies.npz", flux=np.zeros((1, 5)))
    (run.results / "latents.h5").write_bytes(b"no HDF5")
    text = page_of(run).text
    assert "Results/reconstructions.npz cannot be read" in text
    assert "Results/anomalies.npz lacks wavelength_aa, ivar" in text
    assert "Results/latents.h5 cannot be read" in text


def test_an_npz_with_a_pickle_inside_is_refused(run, tmp_path):
    """Loading a pickle runs whatever it says; a report must be safe to write for anybody's run."""
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(canary),)

    run.results.mkdir()
    np.savez(run.results / "anomalies.npz", flux=np.array([Bomb()], dtype=object))
    assert "Results/anomalies.npz cannot be read" in page_of(run).text
    assert not canary.exists()


def test_spectra_on_grids_of_their_own_and_without_valid_pixels_are_drawn(run):
    write_results(run, num_spectra=2, num_pixels=400)
    with np.load(run.results / "reconstructions.npz") as stored:
        arrays = dict(stored)
    arrays["wavelength_aa"] = np.stack([arrays["wavelength_aa"], arrays["wavelength_aa"] + 300])
    arrays["ivar"][1] = 0
    arrays["redshift"][1] = np.nan
    np.savez(run.results / "reconstructions.npz", **arrays)
    text = page_of(run).text
    assert "no valid pixel" in text


def test_hundreds_of_attempts_stay_readable(run):
    for number in range(1, 301):
        recorder = Recorder(run, number, START + 100 * number)
        recorder.time += 50
        recorder.write("train", number, loss=1.0)
        recorder.event("stopped", number, cause="SIGTERM", exit_code=75)
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
