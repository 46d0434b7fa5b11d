"""What is made from the schema is current: profiles/schema.json for editors, docs/profile.md for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpctrain.cli import run_command
from hpctrain.profile.describe import attribute_docstrings, profile_json_schema, profile_json_schema_text
from hpctrain.profile.describe import profile_markdown as markdown
from hpctrain.profile.families import profile_class
from hpctrain.profile.schema import Profile
from hpctrain.profile.wording import sections

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_schema_for_editors_is_current() -> None:
    """Make it with: hpctrain schema --out profiles/schema.json."""
    assert (REPOSITORY / "profiles" / "schema.json").read_text(encoding="utf-8") == profile_json_schema_text()


def test_the_page_about_the_profile_is_current() -> None:
    """Make it with: hpctrain schema --markdown --out docs/profile.md."""
    assert (REPOSITORY / "docs" / "profile.md").read_text(encoding="utf-8") == markdown()


def test_every_key_says_what_it_is() -> None:
    """A key without a text is a key nobody understands."""
    schema = profile_json_schema()
    for node in (schema, *schema["$defs"].values()):
        for key, value in node["properties"].items():
            assert value["description"].endswith("."), key


def test_editors_accept_a_base_in_place_of_the_needed_keys() -> None:
    """A profile that extends another may leave name and data to it."""
    schema = profile_json_schema()
    assert "extends" in schema["properties"]
    assert schema["if"] == {"not": {"required": ["extends"]}}
    assert schema["then"]["required"] == ["name", "data"]
    assert "required" not in schema
    assert schema["additionalProperties"] is False


def test_every_section_is_on_the_page() -> None:
    """From the top of the profile to the section within a section."""
    titles = [line.removeprefix("## ") for line in markdown().splitlines() if line.startswith("## ")]
    assert titles == ["At the top", *(".".join(map(str, path)) for path, _ in sections(profile_class()) if path)]


def test_units_are_written_where_a_name_has_none() -> None:
    """The page is read by people who do not read code."""
    assert "[GiB]" in attribute_docstrings(Profile.model_fields["launch"].annotation)["memory_gib_per_node"]


@pytest.mark.slow
def test_the_schema_is_written_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To a file, or to the terminal."""
    assert run_command("schema", ["--out", str(tmp_path / "schema.json")]) == 0
    assert json.loads((tmp_path / "schema.json").read_text(encoding="utf-8"))["title"] == "hpctrain profile"
    assert run_command("schema", ["--out", str(tmp_path / "no" / "schema.json")]) == 2
    assert "No such file or directory" in capsys.readouterr().err
