"""The report in a real browser: no error on the console, nothing cut off, nothing wider than the window."""

import json
import re
import shutil
import subprocess

import pytest
from real_run import copy_run

from hpctrain.report.write import write_report

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no chromium here")]

PROBE = """
const found = {wide: document.documentElement.scrollWidth - window.innerWidth, outside: [], overlapping: []};
for (const svg of document.querySelectorAll("svg")) {
  const frame = svg.parentElement.getBoundingClientRect(), boxes = [];
  for (const text of svg.querySelectorAll("text")) {
    const box = text.getBoundingClientRect();
    if (box.right > frame.left + svg.getBoundingClientRect().width + 1 || box.left < frame.left - 1 ||
        box.bottom > frame.bottom + 1 || box.top < frame.top - 1) found.outside.push(text.textContent);
    for (const [other, name] of boxes)
      if (box.left < other.right - 1 && other.left < box.right - 1 &&
          box.top < other.bottom - 3 && other.top < box.bottom - 3)
        found.overlapping.push(name + " / " + text.textContent);
    boxes.push([box, text.textContent]);
  }
}
const svg = [...document.querySelectorAll("svg")].find((one) => one.getBoundingClientRect().width > 0);
const at = svg.getBoundingClientRect();
found.cut = [...document.querySelectorAll("svg, table")]
  .filter((one) => one.getBoundingClientRect().right > window.innerWidth)
  .map((one) => one.getAttribute("aria-label") || one.className);
svg.dispatchEvent(new PointerEvent("pointermove", {clientX: at.left + at.width / 2, clientY: at.top + at.height / 2}));
found.readout = [...svg.querySelectorAll(".readout text")].map((text) => text.textContent);
const note = document.createElement("pre"); note.id = "probe"; note.textContent = JSON.stringify(found);
document.body.append(note);
"""


def browse(page, profile, width):
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        f"--user-data-dir={profile}", f"--window-size={width},2000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def report(real_run, tmp_path_factory):
    return write_report(copy_run(real_run, tmp_path_factory.mktemp("browser")))


@pytest.mark.parametrize("width", [1300, 760, 400])
def test_everything_is_inside_its_frame_and_the_pointer_reads_values(report, tmp_path, width):
    page = tmp_path / "probed.html"
    text = report.read_text(encoding="utf-8")
    policy = re.compile(r"<meta http-equiv=[^>]*>")  # it would, rightly, forbid the probe
    page.write_text(policy.sub("", text).replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    found = json.loads(re.search(r'<pre id="probe">(.*?)</pre>', browse(page, tmp_path / "p", width).stdout)[1])
    assert found["wide"] <= 0
    assert found["outside"] == []
    assert found["overlapping"] == []
    assert found["cut"] == [], "nobody sees that there is more on the right"
    assert found["readout"][0].startswith("step")
    assert {line.split("  ")[0] for line in found["readout"]} >= {"training"}


def test_the_console_is_silent_and_the_policy_lets_our_script_run(report, tmp_path):
    ran = browse(report, tmp_path / "p", 1300)
    assert 'class="readout"' in ran.stdout, "the content security policy forbids our own script"
    assert [line for line in ran.stderr.splitlines() if "CONSOLE" in line] == []
