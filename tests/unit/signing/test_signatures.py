"""Signatures of folders and files: what was changed, a wrong key and a missing signature are refused."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys

import pytest
from signing_keys import keys_in, model_signing, openssl

from hpctrain.access import MARK
from hpctrain.cli import run_command
from hpctrain.errors import CheckpointError, ProfileError, SiteError
from hpctrain.signing.keys import anchors_of, read_signer
from hpctrain.signing.sign import sign_in_place
from hpctrain.signing.verify import require_signature


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with two pairs of keys."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("leads", "other"):
        keys_in(folder, name)
    return folder


@pytest.fixture
def bundle(tmp_path, keys):
    """A folder that was signed with the key of the leads."""
    folder = tmp_path / "bundle"
    (folder / "deep").mkdir(parents=True)
    (folder / "bundle.json").write_text("{}")
    (folder / "deep/model.onnx").write_bytes(b"weights")
    sign_in_place(folder, read_signer(keys / "leads.key"))
    return folder


def refusal(path, *public):
    with pytest.raises(CheckpointError) as error:
        require_signature(path, anchors_of(public))
    return str(error.value)


def test_what_was_signed_is_verified_wherever_it_is_copied_to(bundle, keys, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "elsewhere/another name")
    anchors = anchors_of([keys / "other.pub", keys / "leads.pub"])
    assert require_signature(copy, anchors) == anchors[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "deep/model.onnx").write_bytes(b"Weights"), "deep/model.onnx: changed"),
        (lambda folder: (folder / "deep/model.onnx").unlink(), "deep/model.onnx: is missing"),
        (lambda folder: (folder / "more.onnx").touch(), "more.onnx: was added"),
        (
            lambda folder: (folder / "bundle.json").rename(folder / "b.json"),
            "b.json: was added; bundle.json: is missing",
        ),
        (lambda folder: (folder / "link").symlink_to("bundle.json"), "symlink"),
    ],
)
def test_whatever_is_changed_in_a_signed_folder_is_named(bundle, keys, change, said):
    change(bundle)
    text = refusal(bundle, keys / "leads.pub")
    assert said in text
    assert text.startswith(f"{bundle}: is not what was signed\n")


def test_a_wrong_key_and_a_missing_signature_are_refused(bundle, keys, tmp_path):
    text = refusal(bundle, keys / "other.pub")
    assert "is signed by key " in text
    assert text.endswith("(other.pub)")
    assert "is not signed, and must be signed by" in refusal(bundle / "bundle.json", keys / "leads.pub")
    assert "no such file" in refusal(tmp_path / "nothing", keys / "leads.pub")


def test_a_signature_that_names_a_trusted_key_and_is_not_by_it_is_refused(bundle, keys):
    (path,) = (bundle / "signatures").iterdir()
    good = json.loads(path.read_text())
    payload = json.loads(base64.b64decode(good["dsseEnvelope"]["payload"]))
    payload["predicate"]["serialization"]["ignore_paths"] = ["deep", "signatures"]
    (bundle / "deep/model.onnx").write_bytes(b"other weights")
    good["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    path.write_text(json.dumps(good))
    assert "the signature is not valid" in refusal(bundle, keys / "leads.pub")
    for damage in ("{", "[]", "{}", '{"verificationMaterial": 7}'):
        path.write_text(damage)
        assert "is damaged" in refusal(bundle, keys / "leads.pub")


def test_a_signature_of_something_else_is_no_signature_of_this(bundle, keys, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "bundle.json").write_text("{}")
    shutil.copytree(bundle / "signatures", other / "signatures")
    assert "deep/model.onnx: is missing" in refusal(other, keys / "leads.pub")


def test_several_people_sign_and_one_trusted_signature_is_enough(bundle, keys):
    sign_in_place(bundle, read_signer(keys / "other.key"))
    for name in ("leads", "other"):
        require_signature(bundle, anchors_of([keys / f"{name}.pub"]))
    (bundle / "bundle.json").write_text("[]")
    sign_in_place(bundle, read_signer(keys / "other.key"))
    assert require_signature(bundle, anchors_of([keys / "leads.pub", keys / "other.pub"])).path.name == "other.pub"
    assert "bundle.json: changed" in refusal(bundle, keys / "leads.pub")


def test_a_file_is_signed_beside_it(keys, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    target = sign_in_place(file, read_signer(keys / "leads.key"))
    assert target.parent == tmp_path / "model.safetensors.signatures"
    require_signature(file, anchors_of([keys / "leads.pub"]))
    file.write_bytes(b"Weights")
    assert "changed" in refusal(file, keys / "leads.pub")


def test_a_signature_has_the_access_of_what_was_signed(keys, tmp_path):
    (tmp_path / MARK).write_text("private\n")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    target = sign_in_place(tmp_path / "model.safetensors", read_signer(keys / "leads.key"))
    assert [path.stat().st_mode & 0o777 for path in (target, target.parent)] == [0o600, 0o700]


def test_the_library_alone_verifies_what_was_signed_here(bundle, keys):
    """The format is that of the OpenSSF, and not one of our own."""
    (path,) = (bundle / "signatures").iterdir()
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=keys / "leads.pub").verify(bundle, path)


def test_keys_of_openssl_encrypted_ones_and_certificates_can_be_used(bundle, tmp_path):
    (tmp_path / "usage").write_text("keyUsage=critical,digitalSignature")
    openssl(
        tmp_path,
        "ecparam -name secp384r1 -genkey -noout -out mine.key",
        "ec -in mine.key -pubout -out mine.pub",
        "ec -in mine.key -aes256 -passout pass:secret -out locked.key",
        "req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -subj /CN=group -out ca.pem",
        "req -new -key mine.key -subj /CN=me -out mine.csr",
        "x509 -req -in mine.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile usage -out mine.pem",
        "req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout b.key -subj /CN=group -out b.pem",
    )
    sign_in_place(bundle, read_signer(tmp_path / "locked.key", ask=lambda: b"secret"))
    require_signature(bundle, anchors_of([tmp_path / "mine.pub"]))
    with pytest.raises(ProfileError, match="the password is wrong"):
        read_signer(tmp_path / "locked.key", ask=lambda: b"Secret")
    sign_in_place(bundle, read_signer(tmp_path / "mine.key", tmp_path / "mine.pem"))
    require_signature(bundle, anchors_of([tmp_path / "ca.pem"]))
    assert "unable to get local issuer certificate" in refusal(bundle, tmp_path / "b.pem")
    with pytest.raises(ProfileError, match="its first certificate is not that of"):
        read_signer(tmp_path / "mine.key", tmp_path / "ca.pem")


def test_a_private_key_that_others_may_read_or_that_would_be_given_away_is_refused(bundle, keys, tmp_path):
    copy = shutil.copy(keys / "leads.key", tmp_path / "leads.key")
    os.chmod(copy, 0o640)
    with pytest.raises(ProfileError, match=r"--key: .*others may read or change it \(mode 0640\); chmod 600"):
        read_signer(copy)
    os.chmod(copy, 0o600)
    with pytest.raises(ProfileError, match="would be given away with it"):
        sign_in_place(tmp_path, read_signer(copy))
    assert not (tmp_path / "signatures").exists()


def test_all_files_that_are_no_public_keys_are_named_at_once(keys, tmp_path):
    (tmp_path / "text").write_text("-----BEGIN PUBLIC KEY-----")
    openssl(tmp_path, "genpkey -algorithm ed25519 -out ed.key", "pkey -in ed.key -pubout -out ed.pub")
    names = [tmp_path / "text", keys / "leads.key", tmp_path / "nothing", tmp_path / "ed.pub", keys / "leads.pub"]
    with pytest.raises(ProfileError) as error:
        anchors_of(names)
    assert len(error.value.problems) == 4
    for said in ("is no public key", "is a private key", "No such file", "must be on one of the elliptic curves"):
        assert said in str(error.value)


def test_the_command_makes_keys_signs_and_verifies(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command("signature", ["keygen", "--out", "leads"]) == 0
    assert run_command("signature", ["keygen", "--out", "leads"]) == 2
    assert (os.stat("leads.key").st_mode & 0o777, os.stat("leads.pub").st_mode & 0o077) == (0o600, 0o044)
    (tmp_path / "thing").write_text("1")
    assert run_command("signature", ["sign", "thing", "--key", "leads.key"]) == 0
    assert run_command("signature", ["verify", "thing", "--public-key", "leads.pub"]) == 0
    assert "thing: is what key " in capsys.readouterr().out
    (tmp_path / "thing").write_text("2")
    assert run_command("signature", ["verify", "thing", "--public-key", "leads.pub"]) == 5
    assert run_command("signature", ["sign", "nothing", "--key", "leads.key"]) == 2


def test_without_the_library_one_sentence_says_what_to_install(bundle, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(SiteError, match=r"pip install 'hpctrain\[signing\]'"):
        anchors_of([keys / "leads.pub"])
