"""The page of all runs: what it lists, what it compares, and what it makes of odd and broken runs."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from html.parser import HTMLParser

import pytest
from filled_folder import make_run, make_study, places_in, start
from rows_of_index import fresh_index

from hpctrain.cli import main
from hpctrain.index.page import keys as keys_module
from hpctrain.index.page.gather import gather
from hpctrain.index.page.keys import differing_keys
from hpctrain.index.page.page import render_page
from hpctrain.index.page.sparkline import Curve, num_points, sparkline, thin
from hpctrain.index.query import Question, find_runs
from hpctrain.index.read_more import POINTS, thinned
from hpctrain.report.differences.origins import differing, plain_profiles
from hpctrain.rundir import RunDir, write_json
from hpctrain.search.folder import StudyDir
from hpctrain.terminal import printable

BROWSER = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
NOW = 2e9
HOSTILE = '</script><img src=x onerror="alert(1)">\u202e'


class Rows(HTMLParser):
    """The cells of the table of runs as texts, its links, and the names of all elements of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self._is_inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        facts = dict(attrs)
        if tag == "table":
            self._is_inside = facts.get("id") == "runs-table"
        elif self._is_inside and tag == "tr":
            self.rows.append([])
        elif self._is_inside and tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "a" and self._is_inside:
            self.links.append(facts["href"])

    def handle_endtag(self, tag):
        if tag == "table":
            self._is_inside = False

    def handle_data(self, data):
        if self._is_inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip() + " "


def page_of(folder, index, most=100):
    with index.reading() as connection:
        return render_page(gather(connection, places_in(folder), most, NOW), folder / "runs", folder / "runs", NOW)


def test_the_table_has_every_run_with_state_losses_cost_and_origin(folder):
    again = make_run(folder, "again", 9)
    write_json(again.provenance, {"parent": {"run": str(folder / "runs" / "quasars" / "20261126-120001-0001")}})
    writer = start(again)
    for step in range(1, 400):
        writer.train(step, loss=3.0 / step, lr=1e-3)
    writer.close()
    make_study(folder)
    (RunDir(next((folder / "runs" / "galaxies").glob("2*"))).report).write_text("a report")
    found = Rows(page_of(folder, fresh_index(folder, folder / "new.sqlite")))
    head, *rows = found.rows
    by_name = {row[0].split()[0]: dict(zip((name.strip() for name in head), row, strict=True)) for row in rows}
    assert len(rows) == 7
    assert by_name["again"]["State"].strip() == "lost"
    assert by_name["again"]["Made from"].split() == ["quasars", "20261126-120001-0001"]
    assert "no report" in by_name["again"]["Run"]
    assert by_name["galaxies"]["Best"].split() == ["0.9", "loss"]
    assert by_name["galaxies"]["Steps"].strip() == "100"
    assert "no report" not in by_name["galaxies"]["Run"]
    assert by_name["hunt"]["Made from"].split() == ["hunt", "20261126-140000-bbbb"]
    assert "galaxies/20261126-120003-0003/report.html" in found.links
    with fresh_index(folder, folder / "new.sqlite").reading() as connection:
        reruns = list(find_runs(connection, Question("parent ~ *quasars*", show="advice")))
    assert [each["name"] for each in reruns] == ["again"]


def test_the_newest_runs_come_first_and_the_page_says_how_many_are_left_out(folder, index):
    text = page_of(folder, index, most=2)
    assert [row[0].split()[0] for row in Rows(text).rows[1:]] == ["stars", "galaxies"]
    assert "The newest 2 of 4 runs" in text


def test_texts_of_others_stay_texts(folder, index):
    run = make_run(folder, 'a"onclick=b&<c>', 8, family="trees")
    text = run.profile.read_text().replace("name: a", "name: x #")
    run.profile.write_text(f"description: {json.dumps(HOSTILE)}\n{text}extra: {json.dumps(HOSTILE)}\n")
    study = StudyDir(folder / "runs" / "<i>hunt" / "20261126-140000-cccc")
    shutil.copytree(make_study(folder).path, study.path)
    text = page_of(folder, fresh_index(folder, folder / "new.sqlite"))
    found = Rows(text)
    assert not {"img", "i", "c"} & found.names
    assert "\u202e" not in text
    assert text.count("<script") == 3, "those of the report, of this page, and its data"
    assert any('a"onclick=b&<c>' in row[0] for row in found.rows)
    data = re.search(r'<script type="application/json" id="keys">(.*?)</script>', text, re.DOTALL)[1]
    values = [value for listed in json.loads(data)["values"] for value in listed]
    assert printable(HOSTILE) in values, "the script shows it as a text"


def test_broken_runs_have_a_row_and_hide_no_other(folder, index):
    quasars = sorted((folder / "runs" / "quasars").glob("2*"))
    (quasars[0] / "profile.yaml").write_text("model: [\n")
    (quasars[1] / "job.json").write_text("[" * 100_000)
    stars = next((folder / "runs" / "stars").glob("2*"))
    (stars / "metrics.jsonl").write_bytes(b'{"kind":"train","step":1,"time":1,"attempt":1,"loss":"\xff"}\nnothing\n')
    (stars / "provenance.json").write_text('{"parent": 7}')
    rows = Rows(page_of(folder, fresh_index(folder, folder / "new.sqlite"))).rows[1:]
    assert sorted(row[0].split()[0] for row in rows) == ["galaxies", "quasars", "quasars", "stars"]


def test_a_folder_without_runs_gives_a_page_that_says_so(tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["index", "page"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "runs" / "index.html")
    assert "There are no runs yet." in (tmp_path / "runs" / "index.html").read_text()


def test_missing_reports_are_written_if_asked_and_one_that_fails_stops_no_other(folder, index, capsys):
    for each in ("galaxies", "stars"):
        shutil.rmtree(folder / "runs" / each)
    first, second = sorted((folder / "runs" / "quasars").glob("2*"))
    (first / "report.html").mkdir()
    (first / "report.html").rename(first / "aside")
    shutil.copytree(first / "aside", second / "report.html" / "inside")
    assert main(["index", "page", "--reports", "--out", str(folder / "elsewhere" / "all.html")]) == 0
    assert (first / "report.html").is_file()
    text = (folder / "elsewhere" / "all.html").read_text()
    assert f"../runs/quasars/{first.name}/report.html" in Rows(text).links
    capsys.readouterr()


def test_who_may_not_read_a_run_may_not_read_the_page(folder, index, capsys):
    assert main(["index", "page"]) == 0
    page = folder / "runs" / "index.html"
    assert stat.S_IMODE(page.stat().st_mode) & 0o044 == 0o044
    next((folder / "runs" / "stars").glob("2*")).chmod(0o700)
    assert main(["index", "page"]) == 0
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    capsys.readouterr()


def test_the_keys_that_differ_are_those_of_diff(folder):
    first, second = (RunDir(path) for path in sorted((folder / "runs" / "quasars").glob("2*")))
    labels = "labels: [{{column: Z, kind: {}}}], widths: [1, {}]"
    for run, values in ((first, ("value", 2)), (second, ("density", 3))):
        text = run.profile.read_text().replace("trees:", f"{labels.format(*values)}, trees:")
        run.profile.write_text(text.replace("1e-3", "1e-3" if run is first else "0.001"))
    for each in ("galaxies", "stars"):
        shutil.rmtree(folder / "runs" / each)
    index = fresh_index(folder, folder / "new.sqlite")
    with index.reading() as connection:
        found = gather(connection, places_in(folder), 100, NOW)
    assert found.keys.names == sorted(one.name for one in differing(*plain_profiles(first, second)))
    assert "model.labels.0.kind" in found.keys.names
    assert "train.learning_rate" not in found.keys.names
    place = found.keys.names.index("train.batch_size")
    shown = {
        run.row.run_id: found.keys.values[place][pairs.get(place, 0)]
        for run, pairs in zip(found.runs, found.keys.of_runs, strict=True)
    }
    assert shown == {first.run_id: "64", second.run_id: "128"}


def test_keys_with_too_many_values_are_named_and_not_written(seen, monkeypatch):
    monkeypatch.setattr(keys_module, "MOST_PAIRS", 1)
    with seen.reading() as connection:
        ids = [row[0] for row in connection.exec_driver_sql("SELECT id FROM runs ORDER BY id")]
        found = differing_keys(connection, ids)
    assert sum(map(len, found.of_runs)) <= 1
    assert "model.trees" in found.left_out


def test_curves_are_means_and_the_drawing_gives_them_back():
    records = [{"step": step, "loss": 100.0 / (1 + step)} for step in range(1, 10_001)]
    steps, losses = thinned([*records, {"step": 3, "loss": None}])
    assert len(steps) == POINTS
    assert losses[0] == pytest.approx(sum(100.0 / (1 + s) for s in range(1, 209)) / 208, rel=1e-4)
    curve = thin(Curve(steps, losses), num_points(10_000))
    assert len(curve.steps) == 20
    text = sparkline(curve, None)
    low, high, kind = re.search(r'data-y="([^"]*)"', text)[1].split()
    assert kind == "log"
    numbers = list(map(int, re.search(r'd="M([^"]*)"', text)[1].split()))
    back = [float(low) * (float(high) / float(low)) ** (1 - y / 250) for y in numbers[1::2]]
    assert back == pytest.approx(curve.losses, rel=0.01)
    assert sparkline(Curve([1], [2.0]), None) == ""
    assert 'd="M' in sparkline(Curve([1, 2], [2.0, 2.0]), None)


PROBE = """
const click = (one) => one.click(), said = {};
const names = () => [...document.querySelectorAll("#runs-table tbody tr")].map((row) => firstText(row.cells[0]));
click(document.querySelectorAll("#runs-table th button")[6]); said.sorted = names();
click(document.querySelectorAll("#runs-table th button")[6]); said.down = names();
document.querySelectorAll("#runs-table tbody input").forEach(click);
said.lines = [...document.querySelectorAll("#chosen path[data-name]")].length;
const texts = (row) => [...row.cells].map((cell) => cell.textContent);
said.rows = [...document.querySelectorAll("#chosen tbody tr")].map(texts);
const [search, state, family] = document.querySelectorAll(".searched input, .searched select");
const put = (one, value) => { one.value = value; one.dispatchEvent(new Event("input")); };
put(state, "finished"); put(family, "spectral_vae"); put(search, "QUASARS 0002"); said.found = names();
said.count = document.getElementById("runs-count").textContent;
document.body.append(Object.assign(document.createElement("pre"), {id: "probe", textContent: JSON.stringify(said)}));
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_a_browser_sorts_searches_and_compares(folder, index, tmp_path):
    text = page_of(folder, index)
    policy = re.compile(r"<meta http-equiv=[^>]*>")  # it would, rightly, forbid the probe
    assert text.count("'sha256-") == 2
    page = tmp_path / "page.html"
    helper = "const firstText = (cell) => cell.querySelector('a,span').textContent;"
    probed = policy.sub("", text).replace("</body>", f"<script>{{{helper}{PROBE}}}</script></body>")
    page.write_text(probed, encoding="utf-8")
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'p'}", "--window-size=400,2000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    said = json.loads(re.search(r'<pre id="probe">(.*?)</pre>', done.stdout)[1])
    assert said["sorted"] == ["galaxies", "quasars", "quasars", "stars"]
    assert said["down"] == ["stars", "quasars", "quasars", "galaxies"]
    assert said["lines"] == 3, "one run has a single evaluation"
    rows = {name: values for name, *values in said["rows"]}
    assert rows["Best"] == ["3", "1.3", "1.1", "0.9"]
    assert rows["train.batch_size"] == ["64", "128", "64", "64"]
    assert rows["model.family"] == ["trees", "spectral_vae", "spectral_vae", "trees"]
    assert said["found"] == ["quasars"]
    assert said["count"] == "1 of 4 runs"
