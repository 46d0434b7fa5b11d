"""Signatures of versions: who has approved a version, and that nothing unsigned is used where the rules ask for one."""

from __future__ import annotations

import json

import pytest
from registered_runs import GATE, added, finished_run
from signing_keys import keys_in

import hpctrain
from hpctrain.cli import run_command
from hpctrain.errors import CheckpointError, SiteError
from hpctrain.registry.actions import export_version, faults_of, find_version, promote, resolve, rollback
from hpctrain.registry.add import add_run
from hpctrain.registry.delete import delete_run
from hpctrain.registry.references import model_at
from hpctrain.registry.sealed import sealed_text
from hpctrain.registry.signatures import keys_of, sign_version
from hpctrain.registry.trail_verify import verify_trail
from hpctrain.registry.version import verify_version
from hpctrain.signing.keys import anchors_of, read_signer
from hpctrain.signing.verify import require_signature
from hpctrain.trail.who import groups


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with two pairs of keys."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("leads", "other"):
        keys_in(folder, name)
    return folder


@pytest.fixture
def leads(keys):
    """The private key of the leads."""
    return read_signer(keys / "leads.key")


def rule(registry, keys, text="required_for: [champion]", more=""):
    """Write rules that trust the leads."""
    registry.path.mkdir(exist_ok=True)
    registry.policy.write_text(f"signing: {{{text}, public_keys: [{keys / 'leads.pub'}]}}\n{more}")


def states_below(folder):
    """Return what a change of a file or a folder would change; reading changes only the time of access."""
    found = {path: path.stat() for path in folder.rglob("*")}
    return {path: (state.st_ino, state.st_mode, state.st_size, state.st_mtime_ns) for path, state in found.items()}


def test_a_signature_lies_beside_a_version_which_it_does_not_change(registry, runs, leads, capsys):
    version = added(registry, runs, 1.0)
    before = states_below(version.path)
    assert sign_version(version, leads)
    assert not sign_version(version, leads)
    assert states_below(version.path) == before
    assert verify_version(version).faults == []
    assert keys_of(version) == [leads.digest[:16]]
    (signature,) = (version.model.path / "signatures" / "1").iterdir()
    assert signature.stat().st_mode & 0o777 == registry.file_mode
    assert run_command("registry", ["show", "photoz:1", "--registry", str(registry.path)]) == 0
    assert f"signed  key {leads.digest[:16]}" in capsys.readouterr().out


def test_a_file_in_the_place_of_a_signature_is_not_taken_for_it(registry, runs, leads):
    version = added(registry, runs, 1.0)
    sign_version(version, leads)
    (path,) = (version.model.path / "signatures" / "1").iterdir()
    path.unlink()
    path.write_text("{}")
    with pytest.raises(CheckpointError, match="is no signature of photoz:1 by this key; remove the file"):
        sign_version(version, leads)


def test_an_alias_that_needs_a_signature_is_given_to_no_other_version(registry, runs, keys, leads):
    rule(registry, keys)
    version = added(registry, runs, 1.0, [GATE])
    with pytest.raises(
        CheckpointError, match=r"photoz:1: is not signed, and must be signed by key .*hpctrain registry"
    ):
        promote("photoz:1", "champion", "good", registry, force=True)
    sign_version(version, read_signer(keys / "other.key"))
    with pytest.raises(CheckpointError, match=r"is signed by key .*, and must be signed by key"):
        promote("photoz:1", "champion", "good", registry)
    promote("photoz:1", "candidate", "to be compared", registry)
    sign_version(version, leads)
    assert promote("photoz:1", "champion", "good", registry).move is not None


def test_no_version_without_its_signature_is_used_rolled_back_to_or_exported(registry, runs, keys, leads, tmp_path):
    for number in (1, 2):
        sign_version(added(registry, runs, number, [GATE]), leads)
        promote(f"photoz:{number}", "champion", "better", registry)
    promote("photoz:1", "candidate", "again", registry)
    rule(registry, keys)
    for text in ("registry:photoz", "registry:photoz@champion", "registry:photoz:2"):
        assert model_at(text, runs).name == "2"
    for path in (registry.models / "photoz/signatures").rglob("*.sig"):
        path.unlink()
    for text in ("registry:photoz", "registry:photoz@champion", "registry:photoz:2"):
        with pytest.raises(CheckpointError, match="photoz:2: is not signed"):
            model_at(text, runs)
    assert model_at("registry:photoz@candidate", runs).name == "1"
    with pytest.raises(CheckpointError, match="photoz:2: is not signed"):
        export_version("photoz@champion", tmp_path / "out", registry)
    with pytest.raises(CheckpointError, match="photoz:1: is not signed"):
        rollback("photoz", "champion", "worse", registry)
    found = {what: faults for what, faults, _ in faults_of(registry, ["photoz"])}
    assert [what for what, faults in found.items() if faults] == ["photoz:2"]
    rule(registry, keys, "required_for: [all]")
    with pytest.raises(CheckpointError, match="photoz:1: is not signed"):
        model_at("registry:photoz@candidate", runs)


def test_a_version_that_was_changed_together_with_its_manifest_is_found_by_its_signature(registry, runs, keys, leads):
    """Whoever can write to the folder can make a new manifest, but no new signature."""
    rule(registry, keys)
    version = added(registry, runs, 1.0, [GATE])
    sign_version(version, leads)
    promote("photoz:1", "champion", "good", registry)
    forged = added(registry, runs, 9.0, [GATE])
    facts = json.loads((forged.path / "MANIFEST.json").read_text())
    version.path.chmod(0o755)
    (version.path / "model").chmod(0o755)
    (version.path / "MANIFEST.json").unlink()
    del facts["sha256"]
    (version.path / "MANIFEST.json").write_text(sealed_text({**facts, "number": 1}))
    for name in facts["files"]:
        (version.path / name).unlink()
        (version.path / name).write_bytes((forged.path / name).read_bytes())
    assert verify_version(find_version("photoz:1", registry)).faults == []
    with pytest.raises(CheckpointError, match=r"is not what was signed\n.*MANIFEST.json: changed"):
        resolve("photoz@champion", registry)


def test_a_user_who_trusts_a_key_needs_no_rules(registry, runs, keys, leads, monkeypatch):
    """The rules lie where those write whom a user may not trust."""
    version = added(registry, runs, 1.0, [GATE])
    promote("photoz:1", "champion", "good", registry)
    other = anchors_of([keys / "other.pub"])
    sign_version(version, leads)
    with pytest.raises(CheckpointError, match="must be signed by key"):
        model_at("registry:photoz", runs, other)
    monkeypatch.setenv("HPCTRAIN_PUBLIC_KEYS", str(keys / "other.pub"))
    with pytest.raises(CheckpointError, match="must be signed by key"):
        model_at("registry:photoz", runs)
    assert model_at("registry:photoz", runs, anchors_of([keys / "leads.pub"])).name == "1"
    monkeypatch.setenv("HPCTRAIN_PUBLIC_KEYS", f"{keys / 'other.pub'}:{keys / 'leads.pub'}")
    assert model_at("registry:photoz", runs).name == "1"


def test_a_bundle_of_a_signed_version_is_signed_for_the_device(
    registry, runs, keys, leads, tmp_path, monkeypatch, capsys
):
    run = finished_run(runs, 1.0)
    folder = run.path / "export" / "onnx-int8"
    folder.mkdir(parents=True)
    for name in ("bundle.json", "model.onnx"):
        (folder / name).write_text("{}")
    sign_version(add_run(run, "photoz", registry).version, leads)
    export_version("photoz:1", tmp_path / "out", registry)
    anchors = anchors_of([keys / "leads.pub"])
    require_signature(tmp_path / "out", anchors)
    (tmp_path / "out/export/onnx-int8").rename(tmp_path / "device")
    require_signature(tmp_path / "device", anchors)
    with pytest.raises(CheckpointError, match=r"bundle.json: is missing"):
        require_signature(tmp_path / "out", anchors)
    infer = [str(tmp_path / "device"), "spec.fits", "--public-key", str(keys / "leads.pub")]
    assert run_command("infer", infer) == 5
    assert "not a bundle of hpctrain" in capsys.readouterr().err, "its signature is good"
    (tmp_path / "device/model.onnx").write_text("[]")
    assert run_command("infer", infer) == 5
    assert "is not what was signed" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="must be signed by key"):
        hpctrain.load(tmp_path / "device", public_key=keys / "other.pub")
    monkeypatch.setenv("HPCTRAIN_PUBLIC_KEYS", str(keys / "leads.pub"))
    with pytest.raises(CheckpointError, match=r"model.onnx: changed"):
        model_at(str(tmp_path / "device"), runs)


def test_a_signature_has_an_entry_in_the_audit_trail(registry, runs, leads):
    version = added(registry, runs, 1.0)
    sign_version(version, leads)
    assert verify_trail(registry).faults == []
    (path,) = (version.model.path / "signatures/1").iterdir()
    path.with_name("0123456789abcdef.sig").write_text("{}")
    (fault,) = verify_trail(registry).faults
    assert fault.startswith("no entry says who did this: sign signatures/1/0123456789abcdef.sig of photoz")


def test_the_commands_sign_while_they_add_promote_and_export(registry, runs, keys, tmp_path, capsys):
    rule(registry, keys, "required_for: [champion, all]")
    key, where = ["--key", str(keys / "leads.key")], ["--registry", str(registry.path), "--runs-dir", str(runs)]
    first, second, third = (finished_run(runs, number, [GATE]) for number in (1, 2, 3))
    champion = ["--name", "photoz", "--alias", "champion"]
    assert run_command("registry", ["add", first.run_id, *champion, *key, *where]) == 0
    assert run_command("registry", ["add", second.run_id, "--name", "photoz", *where]) == 0
    assert "must be signed" in capsys.readouterr().err
    assert run_command("registry", ["promote", "photoz:2", "--to", "champion", "--why", "x", *where]) == 5
    assert run_command("registry", ["promote", "photoz:2", "--to", "champion", "--why", "x", *key, *where]) == 0
    assert run_command("registry", ["add", third.run_id, "--name", "photoz", *where]) == 0
    assert run_command("registry", ["verify", *where]) == 5
    assert run_command("registry", ["export", "photoz:3", "--out", str(tmp_path / "out"), *key, *where]) == 0
    assert run_command("registry", ["verify", *where]) == 0
    assert run_command("registry", ["verify", "--public-key", str(keys / "other.pub"), *where]) == 5
    capsys.readouterr()
    assert run_command("registry", ["sign", "photoz:1", *key, *where]) == 0
    assert "photoz:1: was signed before with key" in capsys.readouterr().out


def test_groups_say_who_may_sign_and_delete(registry, runs, keys, leads):
    run = finished_run(runs, 2.0)
    version = added(registry, runs, 1.0)
    mine = min(groups())
    rule(registry, keys, "sign: [no-such-group]", "delete: [no-such-group]\n")
    with pytest.raises(SiteError, match="may not sign versions: only members of no-such-group may"):
        sign_version(version, leads)
    with pytest.raises(SiteError, match="may not delete runs"):
        delete_run(run, registry)
    assert run.path.is_dir()
    rule(registry, keys, f"sign: [no-such-group, {mine}]", f"delete: [{mine}]\n")
    assert sign_version(version, leads)
    delete_run(run, registry)
    assert not run.path.exists()


@pytest.mark.parametrize("public_keys", ["", ", public_keys: [nothing.pub]"])
def test_rules_that_trust_nobody_are_one_clear_error(registry, runs, public_keys):
    added(registry, runs, 1.0, [GATE])
    registry.policy.write_text(f"signing: {{required_for: [champion]{public_keys}}}\n")
    with pytest.raises(SiteError, match=r"registry.yaml[\s\S]*signing.public_keys"):
        promote("photoz:1", "champion", "good", registry)
