"""Every mistake we could think of, with the whole text of the message a user gets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpctrain.cli import run_command
from hpctrain.errors import ProfileError
from hpctrain.profile.check import check_profile

CASES_FILE = Path(__file__).with_name("wrong_profiles.txt")

NEIGHBOURS = {
    "base.yaml": "train: {epochs: 3}\n",
    "circle.yaml": "extends: profile.yaml\n",
    "wrong.yaml": "data: {files: [spectra.h5]}\ntrain:\n  epochs: 0\n  seeds: 3\n",
    "broken.yaml": "train: [\n",
    "spec.fits": "SIMPLE  =                    T",
    "sites/leo.yaml": (
        "default_partition: gpu\n"
        "partitions:\n"
        "  gpu: {max_time: 1-00:00:00, max_nodes: 4, gpus_per_node: 4, cores: 32, memory_gib: 480, platform: a100-40}\n"
        "  cpu: {max_time: 3-00:00:00, gpus_per_node: 0}\n"
    ),
}


def read_cases() -> list[tuple[str, str, list[str], str]]:
    cases = []
    for block in CASES_FILE.read_text(encoding="utf-8").split("\n=== ")[1:]:
        title, _, rest = block.partition("\n")
        text, _, message = rest.partition(">>>\n")
        lines = text.splitlines(keepends=True)
        overrides = [line.removeprefix("$ --set ").rstrip("\n") for line in lines if line.startswith("$ --set ")]
        profile = "".join(line for line in lines if not line.startswith("$ --set "))
        cases.append((title, profile, overrides, message.rstrip("\n")))
    return cases


CASES = read_cases()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an HDF5 file (its first bytes are all a check reads), a site and some bases."""
    (tmp_path / "spectra.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "sites").mkdir()
    for name, text in NEIGHBOURS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPCTRAIN_SITES", str(tmp_path / "sites"))
    return tmp_path


@pytest.mark.parametrize(("profile", "overrides", "message"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_a_wrong_profile_is_told_all_that_is_wrong(
    here: Path, profile: str, overrides: list[str], message: str
) -> None:
    """The wording is the interface: where, what was found, what is allowed, what to do."""
    (here / "profile.yaml").write_text(profile, encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        check_profile("profile.yaml", overrides, memory=False).raise_problems()
    assert message == str(caught.value).replace(str(here), "{here}")


def test_there_are_enough_wrong_profiles() -> None:
    """Nobody thins the table out by mistake."""
    assert len(CASES) >= 120
    assert len({case[0] for case in CASES}) == len(CASES)


def test_the_command_prints_problems_to_stderr_and_exits_with_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts rely on the code, users on the text."""
    (here / "profile.yaml").write_text("name: run\ndata: {files: [spectra.h5]}\ntrain: {epochs: 0}\n", encoding="utf-8")
    assert run_command("check", ["profile.yaml", "--no-memory"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (
        "profile.yaml: 1 problem\n  line 3: train.epochs: found 0; must be a whole number, 1 or more\n"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("profiel.yaml", None, "does not exist; did you mean 'profile.yaml'?"),
        ("nowhere/profile.yaml", None, "does not exist; there is no folder 'nowhere'"),
        ("folder", None, "is a folder, not a profile"),
        ("spectra.h5", None, "is not UTF-8 text; save it as UTF-8 (iconv -f latin1 -t utf-8)"),
        ("latin1.yaml", "name: galaxië".encode("latin1"), "is not UTF-8 text"),
        ("utf16.yaml", "name: run".encode("utf-16"), "is not text"),
        ("zeros.yaml", b"name: run\0", "is not text"),
        ("large.yaml", b"# " + b"x" * (1 << 20), "is larger than 1 MiB; a profile is a short YAML text"),
        ("control.yaml", b"name: \x07\n", "is not YAML: control characters are not allowed"),
        ("deep.yaml", b"a: " + b"[" * 200_000, "holds more than 20000 values, or more than 50 levels"),
        ("name\0.yaml", None, "cannot be read: embedded null byte"),
    ],
)
def test_what_is_no_profile_at_all_is_named(here: Path, name: str, content: bytes | None, message: str) -> None:
    """People point the command at the data, at a folder, at a file of the wrong encoding."""
    (here / "profile.yaml").write_text("name: run\n", encoding="utf-8")
    if content is not None:
        (here / name).write_bytes(content)
    with pytest.raises(ProfileError, match=re.escape(message)):
        check_profile(name, memory=False)


def test_an_unreadable_profile_is_named(here: Path) -> None:
    """A link into nowhere is what is left of a profile on a scratch disk that was cleaned."""
    (here / "loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(ProfileError, match="cannot be read: Too many levels of symbolic links"):
        check_profile("loop.yaml", memory=False)
