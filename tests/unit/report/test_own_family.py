"""The report of a model family of the user's own, and of one that is not installed here."""

from __future__ import annotations

import itertools
import re
from html import unescape

import h5py
import numpy as np
import pytest
from real_run import write_records

from hpctrain.errors import ProfileError
from hpctrain.report.write import write_example, write_report
from hpctrain.rundir import RunDir

FAMILY = """\
import numpy as np

from hpctrain.drawing.svg import HALF, Axes, drawing, on_both, standalone
from hpctrain.families.family import Family, Objective
from hpctrain.families.shown import Card, Curve, Panel
from hpctrain.profile.sections.model import ModelSection


def draw_scores(files):
    score = files["predictions.h5"]["score"]

    def draw(width):
        axes = Axes(50, 30, width - 70, 200, (0, len(score)), (0, 1))
        axes.line(np.arange(len(score)), score, "c1", "score")
        return drawing(width, 260, [axes], "scores of the held-out samples")

    return f"<figure>{on_both(HALF, draw)}</figure>"


class Classifier(Family):
    name = "classifier"
    kind = "spectra"
    section = ModelSection
    objective = Objective("f1", lower_is_better=False)

    def curves(self):
        return (Curve("f1", "F1 of the classes", ideal=1.0, ideal_label="1: no error", log=False),)

    def panels(self):
        return (*super().panels(), Panel("scores", "Scores by class", ("predictions.h5",), draw_scores))


FAMILY = Classifier()
"""
PLAIN = """\
from hpctrain.families.family import Family
from hpctrain.profile.sections.model import ModelSection

class Plain(Family):
    name, kind, section = "plain", "spectra", ModelSection

FAMILY = Plain()
"""
WRONG_LOSS = PLAIN.replace("ModelSection\n\nFAMILY", "ModelSection\n    loss = 'Loss'\n\nFAMILY")
_names = (f"own_family_{number}" for number in itertools.count())


@pytest.fixture
def make_run(real_run, run, tmp_path, monkeypatch):
    """Return a function that makes a run of a family, whose module has this text: the real run with other metrics."""
    train, evaluation = (next(real_run.read_metrics(kind)) for kind in ("train", "eval"))
    started, finished = (
        next(record for record in real_run.read_metrics("event") if record["event"] == name)
        for name in ("started", "finished")
    )
    for record in (train, evaluation):
        del record["chi2"], record["kl"]

    def make(text: str | None) -> RunDir:
        module = f"{next(_names)}.family"  # Python keeps modules, so each text needs a name of its own
        if text is not None:
            folder = tmp_path / module.split(".")[0]
            folder.mkdir()
            (folder / "family.py").write_text(text)
            monkeypatch.syspath_prepend(tmp_path)
        run.profile.write_text(f"name: mine\nmodel:\n  family: {module}\n")
        records = [{**started, "total_steps": 400}]
        for step in range(10, 401, 10):
            own = {"step": step, "loss": 100 / (step + 100), "f1": step / 500, "purity": 0.5}
            records.append({**train, **own})
            if step % 100 == 0:
                f1 = {100: 0.6, 200: 0.9, 300: 0.8, 400: 0.7}[step]
                own |= {"loss": 110 / (step + 100), "f1": f1, "purity": 0.6, "num_spectra": 50}
                records.append({**evaluation, **own})
        write_records(run, [*records, {**finished, "step": 400, "attempt": 1}])
        run.results.mkdir(exist_ok=True)
        with h5py.File(run.results / "predictions.h5", "w") as file:
            file["target_id"], file["row"] = 39627835576420141 + np.arange(50), np.arange(50)
            file["score"] = np.linspace(0, 1, 50)
            file["label"] = np.full(50, b"QSO", dtype="S3")
            file["probability"] = np.full((50, 3), np.nan, np.float32)
        return run

    return make


def page_of(run: RunDir) -> tuple[str, str]:
    html = write_report(run).read_text(encoding="utf-8")
    return html, " ".join(unescape(re.sub(r"<[^>]+>", " ", html.split("</style>")[1].split("<script>")[0])).split())


def test_a_family_shows_its_panel_its_curve_and_its_objective(make_run):
    html, text = page_of(make_run(FAMILY))
    assert (
        'aria-label="scores of the held-out samples"' in html.split('<section id="scores">')[1].split("</section>")[0]
    )
    assert '<a href="#scores">Scores by class</a>' in html
    assert "Validation f1 0.7 best 0.9 at step 200" in text
    assert "The f1 on 50 held-out spectra is 0.7." in text
    assert "F1 of the classes: f1 against the step" in html
    assert "best validation f1 0.9 at step 200" in html
    assert "The validation f1 was highest at step 200 (0.9) and has fallen to 0.7 since" in text


def test_a_family_that_defines_nothing_gets_all_its_curves_and_a_table_of_its_predictions(make_run):
    html, text = page_of(make_run(PLAIN))
    assert '<section id="training"><h2>Training</h2><figure><figcaption><b>Loss</b></figcaption>' in html
    for title in ("F1", "Purity"):
        figure = html.split(f"<b>{title}</b>")[1].split("</figure>")[0]
        assert 'data-name="training"' in figure
        assert 'data-name="validation"' in figure
    assert "Validation loss 0.22 best 0.22 at step 400" in text
    assert "The loss on 50 held-out spectra is 0.22." in text
    assert "50 held-out samples are in results/predictions.h5." in text
    assert "target_id" not in text
    assert "score float64 0 0.5 1 –" in text
    assert "label text – – – –" in text
    assert "probability float32 × 3 – – – 150" in text


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("panels(self): return (Panel('p', 'Odd', ('predictions.h5',), lambda files: files['x']),)",
         r"the panel 'Odd': KeyError: 'x' \(/.+/family\.py, line \d+\)\."),
        ("panels(self): return (Panel('p', 'Odd', ('predictions.h5',), lambda files: 3),)",
         r"the panel 'Odd': it returned int where str is expected\."),
        ("panels(self): return ['Odd']", r"its panels: it returned str where Panel is expected\."),
        ("curves(self): return [1 / 0]", r"its curves: ZeroDivisionError: .+ \(/.+/family\.py, line \d+\)\."),
        ("cards(self, *args): return ['card']", r"its key numbers: it returned str where Card is expected\."),
        ("fit_sentence(self, *args): return None", r"the result: it returned NoneType where str is expected\."),
        ("caveats(self, *args): raise SystemExit('stop')", r"its caveats: SystemExit: stop \(/.+, line \d+\)\."),
    ],
)  # fmt: skip
def test_an_error_of_a_family_is_named_and_the_rest_is_shown(make_run, method, said):
    text = PLAIN.replace("ModelSection\n\nFAMILY", f"ModelSection\n    def {method}\n\nFAMILY")
    html, shown = page_of(make_run("from hpctrain.families.shown import Panel\n" + text))
    assert re.search(f"The family 'plain' cannot show {said}", shown), shown[:500]
    assert 'id="training"' in html
    assert 'id="provenance"' in html
    assert "Traceback" not in html


def test_a_run_whose_family_is_not_installed_has_all_that_families_share(make_run):
    run = make_run(None)
    html, text = page_of(run)
    name = re.search(r"family: (\S+)", run.profile.read_text())[1]
    assert f"The model family '{name}' cannot be used here, so the report shows only what all families share" in text
    assert f"there is no module '{name.split('.')[0]}'" in text
    assert "pip install -e" in text
    assert "The loss on held-out samples is 0.22." in text
    assert "<b>Purity</b>" in html
    assert "50 held-out samples are in results/predictions.h5." in text


@pytest.mark.parametrize(
    "text", ["FAMILY = 3\n", "import sys\nsys.exit(3)\n", "raise RuntimeError('odd')\n", "x = 1\n", WRONG_LOSS]
)
def test_a_module_that_is_no_family_is_named_with_the_reason(make_run, text):
    _, shown = page_of(make_run(text))
    assert "cannot be used here, so the report shows only what all families share: " in shown


@pytest.mark.parametrize("profile", ["", "name: [", "model: {family: [1]}\n", "model: {family: 3}\n"])
def test_a_profile_that_names_no_family_is_told(make_run, profile):
    run = make_run(None)
    run.profile.write_text(profile)
    _, text = page_of(run)
    assert "the report shows only what all model families share" in text
    assert "The loss on held-out samples is 0.22." in text


def test_damaged_predictions_are_named(make_run):
    run = make_run(PLAIN)
    (run.results / "predictions.h5").write_bytes(b"no HDF5")
    html, text = page_of(run)
    assert "Results/predictions.h5 cannot be read" in text
    assert 'id="predictions"' not in html


def test_predictions_are_not_read_out_of_another_file(make_run, tmp_path):
    run = make_run(PLAIN)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["salary"] = np.full(7, 4711.0)
    with h5py.File(run.results / "predictions.h5", "a") as file:
        file["linked"] = h5py.ExternalLink(tmp_path / "secret.h5", "salary")
        layout = h5py.VirtualLayout((7,), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "salary", (7,))
        file.create_virtual_dataset("virtual", layout)
    _, text = page_of(run)
    assert "50 held-out samples" in text
    assert "4711" not in text.split("Predictions")[-1].split("Profile")[0]
    assert "linked" not in text


def test_a_family_that_draws_no_example_says_so(make_run, tmp_path):
    with pytest.raises(ProfileError, match="there is no drawing of a held-out spectrum"):
        write_example(make_run(PLAIN), tmp_path / "example.svg")
