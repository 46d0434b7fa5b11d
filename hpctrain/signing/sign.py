"""Sign a folder or a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hpctrain.access import following
from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.rundir import write_atomic
from hpctrain.signing.keys import SHORT, Signer
from hpctrain.signing.library import need_signing

SIGNATURES = "signatures"
"""Folder of the signatures in a signed folder, which they leave out."""
SUFFIX = ".sig"


def signature_folder(path: Path) -> Path:
    """Return the folder of the signatures of a folder or a file, whether it exists or not."""
    return path / SIGNATURES if path.is_dir() else path.with_name(f"{path.name}.{SIGNATURES}")


def signature_name(signer: Signer) -> str:
    """Return the name of the file of a signature of this key."""
    return signer.digest[:SHORT] + SUFFIX


def sign_in_place(path: Path, signer: Signer) -> Path:
    """Sign a folder or a file, and write the signature beside its contents; an older one of this key is replaced.

    Returns
    -------
    Path
        The file of the signature.

    Raises
    ------
    ProfileError
        There is no such folder or file, or it holds the private key.
    DataError
        Something cannot be read or written, or is a link.
    """
    if not path.exists():
        raise ProfileError("command line", [Problem("PATH", f"{path}: no such file or folder")])
    text = signature_of(path, signer, [SIGNATURES])
    target = signature_folder(path) / signature_name(signer)
    try:
        with following(path):
            target.parent.mkdir(exist_ok=True)
            write_atomic(target, text)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror}") from error
    return target


def signature_of(path: Path, signer: Signer, left_out: Sequence[str]) -> str:
    """Return the signature of a folder or a file.

    Parameters
    ----------
    path : Path
    signer : Signer
    left_out : sequence of str
        Paths in the folder that are not signed.

    Raises
    ------
    ProfileError
        The folder holds the private key.
    DataError
        Something cannot be read, or is a link.
    """
    _refuse_the_key_itself(path, signer)
    module = need_signing()
    hashing = module.hashing.Config().set_ignored_paths(paths=left_out if path.is_dir() else [])
    config = module.signing.Config().set_hashing_config(hashing)
    if signer.certificate is None:
        config.use_elliptic_key_signer(private_key=signer.path, password=signer.password)
    else:
        chain = [signer.certificate]  # its first certificate is the key's own; a second copy of it does no harm
        config.use_certificate_signer(
            private_key=signer.path, signing_certificate=signer.certificate, certificate_chain=chain
        )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "signature"
        try:
            config.sign(path, out)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be signed: {getattr(error, 'strerror', None) or error}") from error
        return out.read_text(encoding="utf-8")


def _refuse_the_key_itself(path: Path, signer: Signer) -> None:
    key, folder = os.path.realpath(signer.path), os.path.realpath(path)
    if key == folder or os.path.commonpath([key, folder]) == folder:
        message = f"{signer.path} lies in {path}, and would be given away with it; keep it elsewhere"
        raise ProfileError("command line", [Problem("--key", message)])
