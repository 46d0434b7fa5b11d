"""Verify that a folder or a file is what somebody has signed whom the user trusts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain.errors import CheckpointError
from hpctrain.rundir import read_json
from hpctrain.signing.keys import SHORT, Anchor
from hpctrain.signing.library import need_signing
from hpctrain.signing.sign import SUFFIX, signature_folder

# The library names the files in a printed list of strings, so quotes may have a backslash before them.
_CHANGED = re.compile(r"Hash mismatch for \\?'(?P<name>.*?)\\?': Expected")
_ADDED = re.compile(r"Extra files found in model \\?'.*?\\?': (?P<names>.*?)[\"'][,\]]")
_MISSING = re.compile(r"Missing files in model \\?'.*?\\?': (?P<names>.*?)[\"'][,\]]")
_MOST_NAMED = 10


@dataclass(frozen=True)
class Signature:
    """A signature that was read, and not verified.

    Parameters
    ----------
    path : Path
        Its file.
    digest : str or None
        SHA-256 of the public key that it names; None if it has a certificate instead, or is damaged.
    has_certificate : bool
    """

    path: Path
    digest: str | None
    has_certificate: bool

    def __str__(self) -> str:
        if self.digest is not None:
            return f"key {self.digest[:SHORT]}"
        return "a certificate" if self.has_certificate else f"nobody who can be known ({self.path.name} is damaged)"


def require_signature(
    path: Path, anchors: Sequence[Anchor], folder: Path | None = None, called: str = "", way_out: str = ""
) -> Anchor:
    """Refuse a folder or a file that none of the trusted keys has signed as it is.

    Parameters
    ----------
    path : Path
    anchors : sequence of Anchor
        Keys and authorities that are trusted; the signature of one of them is enough.
    folder : Path, optional
        Folder of the signatures, unless they lie in the folder or beside the file.
    called : str
        What messages call it, if not its path.
    way_out : str
        How to sign it, for messages.

    Returns
    -------
    Anchor
        Who has signed it.

    Raises
    ------
    CheckpointError
        It has no signature, none of a trusted key, or has changed since it was signed.
    SiteError
        The library is not installed.
    """
    called = called or str(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder")
    there = signatures_in(signature_folder(path) if folder is None else folder)
    trusted = ", ".join(map(str, anchors))
    if not there:
        raise CheckpointError(f"{called}: is not signed, and must be signed by {trusted}{way_out and f'; {way_out}'}")
    pairs = [(found, anchor) for found in there for anchor in anchors if _belong(found, anchor)]
    if not pairs:
        others = ", ".join(map(str, there))
        raise CheckpointError(f"{called}: is signed by {others}, and must be signed by {trusted}")
    faults = []
    for found, anchor in pairs:
        fault = _fault(path, found, anchor)
        if fault is None:
            return anchor
        faults.append(f"  {found.path.name}, {anchor}: {fault}")
    lines = "\n".join(faults)
    raise CheckpointError(f"{called}: is not what was signed\n{lines}\nget it again from the one who signed it")


def signatures_in(folder: Path) -> list[Signature]:
    """Return the signatures in a folder, without verifying them; none if there is no such folder."""
    return [_read(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]


def _read(path: Path) -> Signature:
    found = read_json(path)
    material = found.get("verificationMaterial") if isinstance(found, dict) else None
    material = material if isinstance(material, dict) else {}
    key = material.get("publicKey")
    hint = key.get("hint") if isinstance(key, dict) else None
    return Signature(path, hint if isinstance(hint, str) else None, "x509CertificateChain" in material)


def _belong(found: Signature, anchor: Anchor) -> bool:
    return found.has_certificate if anchor.digest is None else found.digest == anchor.digest


def _fault(path: Path, found: Signature, anchor: Anchor) -> str | None:
    """Return what is wrong with a signature; None if it is good."""
    config: Any = need_signing().verifying.Config()
    try:
        if anchor.digest is None:
            config.use_certificate_verifier(certificate_chain=[anchor.path])
        else:
            config.use_elliptic_key_verifier(public_key=anchor.path)
        config.verify(path, found.path)
    except Exception as error:  # whatever keeps the library from verifying it: it is not verified
        return _in_words(error)
    return None


def _in_words(error: Exception) -> str:
    text = str(error)
    changed = _CHANGED.findall(text)
    parts = [("changed", changed)]
    parts += [("was added", _names(_ADDED, text)), ("is missing", _names(_MISSING, text))]
    lines = [f"{name}: {what}" for what, names in parts for name in names[:_MOST_NAMED]]
    if lines:
        return "; ".join(line.removeprefix(".: ") for line in lines)
    return f"the signature is not valid ({type(error).__name__}{text and f': {text.splitlines()[0]}'})"


def _names(pattern: re.Pattern[str], text: str) -> list[str]:
    return [name.strip() for match in pattern.finditer(text) for name in match["names"].split(", ")]
