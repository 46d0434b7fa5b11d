"""Versions: what they hold, that they never change, and that damage is found."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time

import pytest
from registered_runs import GATE, added, finished_run

from hpctrain.cli import run_command
from hpctrain.errors import CheckpointError, ProfileError, SiteError
from hpctrain.registry.actions import export_version, faults_of, find_version, resolve
from hpctrain.registry.add import add_run
from hpctrain.registry.version import MANIFEST, read_version, verify_version
from hpctrain.rundir import file_digest


def faults(registry):
    return {what: found for what, found, _ in faults_of(registry, registry.names()) if found}


def test_a_version_holds_the_files_of_the_run_with_their_sizes_and_hashes(registry, runs):
    run = finished_run(runs, 2.0, [GATE])
    (run.model / "conformal.json").write_text("{}")
    (run.model / ".model.json.0123456789abcdef.tmp").write_text("left by a killed writer")
    version = add_run(run, "photoz", registry, "first light").version
    assert str(version) == "photoz:1"
    of_run = {f"model/{name}" for name in ("conformal.json", "model.json", "model.safetensors")}
    of_run |= {"profile.yaml", "provenance.json", "results/validation.json"}
    assert set(version.files) == of_run | {"lineage.json"}
    for name in of_run:
        facts = version.files[name]
        assert facts["sha256"] == file_digest(run.path / name) == file_digest(version.path / name)
        assert facts["size"] == (run.path / name).stat().st_size
    assert version.facts["note"] == "first light"
    assert version.facts["run"]["path"] == str(run.path)


def test_good_bundles_are_part_of_a_version_and_rejected_ones_are_not(registry, runs):
    run = finished_run(runs)
    for name in ("onnx-int8", "onnx-fp16.rejected"):
        folder = run.path / "export" / name
        folder.mkdir(parents=True)
        (folder / "bundle.json").write_text("{}")
        (folder / "model.onnx").write_bytes(b"onnx")
    version = add_run(run, "photoz", registry).version
    bundled = [name for name in version.files if name.startswith("export/")]
    assert bundled == ["export/onnx-int8/bundle.json", "export/onnx-int8/model.onnx"]


def test_the_same_files_are_never_added_twice(registry, runs):
    run = finished_run(runs)
    assert add_run(run, "photoz", registry).is_new
    again = add_run(run, "photoz", registry)
    assert (again.is_new, again.version.number) == (False, 1)
    assert added(registry, runs, 3.0).number == 2


def test_a_version_is_read_only_and_provenance_stays_private(registry, runs):
    version = added(registry, runs, 1.0)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in version.path.rglob("*")}
    assert modes["model.safetensors"] == modes[MANIFEST] == 0o444
    assert modes["provenance.json"] == 0o400
    assert modes["model"] == stat.S_IMODE(version.path.stat().st_mode) == 0o555
    assert version.files["provenance.json"]["private"]


def test_a_folder_shared_with_a_group_gives_its_permissions_to_all_that_comes_in(registry, runs):
    registry.path.mkdir()
    registry.path.chmod(0o2770)
    before = os.umask(0o077)
    try:
        version = added(registry, runs, 1.0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(version.path.stat().st_mode) == 0o2550
    assert stat.S_IMODE((version.path / MANIFEST).stat().st_mode) == 0o440
    assert stat.S_IMODE(version.path.parent.stat().st_mode) == 0o2770
    assert stat.S_IMODE((registry.path / "audit.jsonl").stat().st_mode) == 0o660


def test_provenance_is_shared_where_the_policy_says_so(registry, runs):
    registry.path.mkdir()
    registry.policy.write_text("share_provenance: true\n")
    version = added(registry, runs, 1.0)
    assert stat.S_IMODE((version.path / "provenance.json").stat().st_mode) == 0o444


def test_a_run_without_a_finished_model_is_refused(registry, runs):
    run = finished_run(runs)
    (run.model / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no finished model \(model/model.safetensors is missing\)"):
        add_run(run, "photoz", registry)
    assert registry.names() == []


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "a@b", "a:1", "x" * 65])
def test_a_name_that_could_leave_the_folder_is_refused(registry, runs, name):
    with pytest.raises(ProfileError, match="is no name of a model"):
        add_run(finished_run(runs), name, registry)


@pytest.mark.parametrize("name", ["model/model.safetensors", "model/model.json", "results/validation.json"])
def test_one_changed_byte_of_any_file_is_found(registry, runs, name):
    version = added(registry, runs, 1.0, [GATE])
    path = version.path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    assert verify_version(version).faults == [f"{name}: does not have the SHA-256 that it had when it was added"]
    with pytest.raises(CheckpointError, match="is not as it was added"):
        resolve("photoz:1", registry)


def test_missing_cut_and_added_files_are_all_found_at_once(registry, runs):
    version = added(registry, runs, 1.0, [GATE])
    for path in [version.path, *version.path.rglob("*")]:
        path.chmod(0o755)
    (version.path / "model/model.json").unlink()
    os.truncate(version.path / "profile.yaml", 3)
    (version.path / "model/other").write_text("x")
    (version.path / "results/link").symlink_to("/etc/passwd")
    found = "\n".join(verify_version(version).faults)
    for text in ("model/model.json: is missing", "profile.yaml: has 3 bytes, and had 13", "model/other: is not in the"):
        assert text in found
    assert "results/link: is not in the manifest" in found


def test_a_changed_manifest_and_a_renamed_version_are_found(registry, runs):
    first, second = added(registry, runs, 1.0), added(registry, runs, 2.0)
    manifest = first.path / MANIFEST
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text().replace('"note": ""', '"note": "x"'))
    second.path.rename(second.path.with_name("7"))
    found = faults(registry)
    assert "does not agree with its own SHA-256" in found["photoz:1"][0]
    assert "is photoz:2 according to its manifest" in found["photoz:7"][0]


def test_unfinished_folders_of_dead_writers_are_removed_after_a_day(registry, runs):
    added(registry, runs, 1.0)
    versions = registry.model("photoz").versions
    old, new = versions / ".new-0000000000000000", versions / ".new-1111111111111111"
    for folder in (old, new):
        folder.mkdir()
        (folder / "part").write_text("x")
        folder.chmod(0o555)
    os.utime(old, (time.time() - 90_000,) * 2)
    added(registry, runs, 2.0)
    assert not old.exists()
    assert new.exists()
    assert registry.model("photoz").numbers() == [1, 2]


def test_an_export_is_a_folder_that_can_be_loaded_like_the_version(registry, runs, tmp_path):
    version = added(registry, runs, 1.0)
    _, left_out = export_version("photoz:1", tmp_path / "copy", registry)
    assert left_out == []
    copied = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert copied == {*version.files, MANIFEST}
    shutil.rmtree(tmp_path / "copy")


def test_an_unknown_model_version_or_alias_is_answered_with_those_that_there_are(registry, runs):
    added(registry, runs, 1.0)
    for text, said in (("photz:1", "did you mean 'photoz'"), ("photoz:4", "there is 1"), ("photoz", "no alias yet")):
        with pytest.raises(ProfileError, match=said):
            find_version(text, registry)


def test_a_registry_that_may_not_be_written_is_one_clear_error(registry, runs, tmp_path):
    (tmp_path / "registry").write_text("a file")
    with pytest.raises(SiteError, match="cannot be"):
        added(registry, runs, 1.0)


def test_the_command_adds_lists_shows_and_verifies(registry, runs, capsys):
    run = finished_run(runs, 1.0, [GATE])
    where = ["--registry", str(registry.path), "--runs-dir", str(runs)]
    assert run_command("registry", ["add", run.run_id, "--name", "photoz", *where]) == 0
    assert run_command("registry", ["add", "photoz", "--name", "photoz", "--alias", "champion", *where]) == 0
    assert run_command("registry", ["list", *where]) == 0
    assert run_command("registry", ["show", "photoz", *where]) == 0
    assert run_command("registry", ["verify", *where]) == 0
    said = capsys.readouterr().out
    for text in (
        "photoz:1: added",
        "nothing was added",
        "photoz  1         champion = 1",
        "photoz@champion means version 1 now",
        "passed",
        "photoz:1: good",
    ):
        assert text in said
    assert run_command("registry", ["show", "photoz:1", "--json", *where]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["gates"] == {"passed": True, "number": 1, "reasons": []}
    (read_version(registry.model("photoz"), 1).path / "profile.yaml").chmod(0o644)
    os.truncate(read_version(registry.model("photoz"), 1).path / "profile.yaml", 0)
    assert run_command("registry", ["verify", *where]) == 5
