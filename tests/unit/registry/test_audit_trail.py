"""The audit trail: a chain that survives a kill at every byte and shows every change."""

from __future__ import annotations

import json

import pytest
from registered_runs import GATE, added

from hpctrain.registry.actions import export_version, promote, rollback
from hpctrain.registry.trail_verify import verify_trail
from hpctrain.trail.chain import FILE, record


@pytest.fixture
def trail(registry):
    registry.path.mkdir()
    for number in range(3):
        record(registry.path, "submit", f"runs/a/{number}", why="ü")
    return registry.path / FILE


def test_every_action_is_an_entry_with_who_when_and_what(registry, runs, tmp_path):
    for number in (1, 2):
        added(registry, runs, number, [GATE])
        promote(f"photoz:{number}", "champion", "better", registry)
    rollback("photoz", "champion", "worse", registry)
    export_version("photoz", tmp_path / "copy", registry)
    entries = [json.loads(line) for line in (registry.path / FILE).read_text().splitlines()]
    found = [(entry["action"], entry["subject"]) for entry in entries]
    assert found == [
        ("add", "photoz:1"),
        ("promote", "photoz:1"),
        ("add", "photoz:2"),
        ("promote", "photoz:2"),
        ("rollback", "photoz:1"),
        ("export", "photoz:1"),
    ]
    assert all(entry["user"] and entry["host"] and entry["when"] for entry in entries)
    report = verify_trail(registry)
    assert (report.num_entries, report.faults, report.notes) == (6, [], [])
    assert verify_trail(registry, head=report.head).faults == []


def test_a_line_cut_at_any_byte_is_kept_and_skipped_and_the_chain_goes_on(registry, trail):
    whole = trail.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for end in range(start, len(whole)):
        trail.write_bytes(whole[:end])
        is_entry = end == len(whole) - 1
        found = verify_trail(registry)
        assert found.faults == []
        assert len(found.notes) == (0 if is_entry or end == start else 1)
        record(registry.path, "cancel", "runs/a/0")
        report = verify_trail(registry)
        assert report.faults == []
        assert report.num_entries == (4 if is_entry else 3)
        assert trail.read_bytes().startswith(whole[:end])


def test_two_kills_in_a_row_are_skipped_together(registry, trail):
    whole = trail.read_bytes()
    trail.write_bytes(whole + b'{"action": "ca' + b"\n" + b'{"act')
    record(registry.path, "cancel", "runs/a/0")
    report = verify_trail(registry)
    assert (report.faults, report.num_entries) == ([], 4)
    assert report.notes == ["entry 4 skips 21 bytes of a writer that was killed"]


def test_any_changed_removed_or_added_line_is_found(registry, trail):
    lines = trail.read_bytes().splitlines(keepends=True)
    changed = [
        [lines[0].replace(b"submit", b"cancel"), *lines[1:]],
        [lines[0], lines[2]],
        lines[1:],
        [lines[0], lines[0], *lines[1:]],
        [lines[0], b"not an entry\n", *lines[1:]],
        [lines[0], lines[1].replace(b'"details"', b'"detail"'), lines[2]],
    ]
    for version in changed:
        trail.write_bytes(b"".join(version))
        assert verify_trail(registry).faults, version


def test_entries_cut_off_at_the_end_are_found_by_the_registry_or_by_a_noted_head(registry, runs):
    added(registry, runs, 1.0, [GATE])
    promote("photoz:1", "champion", "good", registry)
    record(registry.path, "delete", "runs/a/0")
    head = verify_trail(registry).head
    path = registry.path / FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    assert verify_trail(registry).faults == []
    assert "entries were taken away" in verify_trail(registry, head=head).faults[0]
    path.write_bytes(lines[0])
    assert verify_trail(registry).faults == ["no entry says who did this: promote photoz:1 to champion"]
