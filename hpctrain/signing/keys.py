"""Keys: a private one that signs, and public ones or certificates of an authority that others trust."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import Problem, ProfileError
from hpctrain.files import open_regular
from hpctrain.signing.library import need_signing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

VARIABLE = "HPCTRAIN_PUBLIC_KEYS"
"""Variable of the environment with files of public keys that a user trusts, divided like those of PATH."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
SHORT = 16
"""Number of hexadecimal digits of a public key's SHA-256 that name a key."""
_LARGEST_BYTES = 1 << 20
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Anchor:
    """What a user trusts: a public key, or the certificate of an authority, which may vouch for many keys.

    Parameters
    ----------
    path : Path
        Its file.
    digest : str or None
        SHA-256 of the public key; None for an authority.
    """

    path: Path
    digest: str | None

    def __str__(self) -> str:
        kind = "the authority" if self.digest is None else f"key {self.digest[:SHORT]}"
        return f"{kind} ({self.path.name})"


@dataclass(frozen=True)
class Signer:
    """A private key that was found to be one, and that nobody but its owner may read.

    Parameters
    ----------
    path : Path
        Its file, which the library reads; it is never copied.
    digest : str
        SHA-256 of the public key.
    public : bytes
        The public key, as PEM.
    password : bytes or None
    certificate : Path or None
        The certificate of the key, and those between it and the authority.
    """

    path: Path
    digest: str
    public: bytes
    password: bytes | None = field(default=None, repr=False)
    certificate: Path | None = None


def anchors_of(paths: Sequence[str | Path], source: str = "command line", key: str = "--public-key") -> list[Anchor]:
    """Return what some files of public keys or certificates are.

    Parameters
    ----------
    paths : sequence of str or Path
    source, key : str
        Where they are named, for messages.

    Raises
    ------
    ProfileError
        Some cannot be used; the message lists all of them.
    SiteError
        The library is not installed.
    """
    found, problems = [], []
    for path in map(Path, paths):
        try:
            found.append(_anchor(path))
        except (OSError, ValueError) as error:
            problems.append(Problem(key, f"{path}: {getattr(error, 'strerror', None) or error}"))
    if problems:
        raise ProfileError(source, problems)
    return found


def anchors_of_environment() -> list[Anchor]:
    """Return the keys that HPCTRAIN_PUBLIC_KEYS names; none if it is unset or empty."""
    names = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    return anchors_of(names, "environment", VARIABLE)


def _anchor(path: Path) -> Anchor:
    content = _read(path)
    need_signing()
    if _CERTIFICATE in content:
        from cryptography.x509 import load_pem_x509_certificates

        load_pem_x509_certificates(content)
        return Anchor(path, None)
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY" in content:
        raise ValueError("is a private key; give the public one")
    try:
        public = load_pem_public_key(content)
    except Exception as error:  # the library has errors of many kinds for a damaged file
        raise ValueError("is no public key and no certificate in PEM") from error
    return Anchor(path, _digest(_on_a_known_curve(public)))


def read_signer(
    path: str | Path, certificate: str | Path | None = None, ask: Callable[[], bytes] | None = None
) -> Signer:
    """Return a private key if it is fit to sign.

    Parameters
    ----------
    path : str or Path
        PEM file of a private key on an elliptic curve; only its owner may read it.
    certificate : str or Path, optional
        PEM file of its certificate, and those between it and the authority.
    ask : callable, optional
        Returns the password; called if the key is encrypted.

    Raises
    ------
    ProfileError
        The key or the certificate cannot be used.
    SiteError
        The library is not installed.
    """
    path = Path(path)
    try:
        content = _read(path)
        _refuse_if_others_may_read(path)
        need_signing()
        password = ask() if ask is not None and b"ENCRYPTED" in content else None
        private = _private(content, password)
        public = _pem(_on_a_known_curve(private.public_key()))
    except (OSError, ValueError) as error:
        raise _wrong("--key", f"{path}: {getattr(error, 'strerror', None) or error}") from error
    signer = Signer(path, hashlib.sha256(public).hexdigest(), public, password, certificate and Path(certificate))
    if signer.certificate is not None:
        _check_certificate(signer, private)
    return signer


def make_keys(private: Path, public: Path) -> str:
    """Make a new pair of keys on the curve P-256; return the SHA-256 of the public one.

    Raises
    ------
    ProfileError
        A file exists, or cannot be written.
    """
    need_signing()
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if taken := [path for path in (private, public) if os.path.lexists(path)]:
        raise _wrong("--out", f"{taken[0]} exists; keys are never replaced")
    for path, content, mode in ((private, secret, 0o600), (public, _pem(key.public_key()), 0o644)):
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as stream:
                stream.write(content)
        except OSError as error:
            raise _wrong("--out", f"{path}: {error.strerror}") from error
    return _digest(key.public_key())


def _private(content: bytes, password: bytes | None) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(content, password)
    except TypeError as error:
        raise ValueError("is encrypted, and there is no password") from error
    except Exception as error:
        text = "the password is wrong" if password is not None else "is no private key in PEM"
        raise ValueError(text) from error
    return key  # type: ignore[return-value]


def _on_a_known_curve(public: object) -> EllipticCurvePublicKey:
    name = getattr(getattr(public, "curve", None), "name", type(public).__name__)
    if name not in CURVES:
        raise ValueError(f"is a key of the kind {name}; must be on one of the elliptic curves {', '.join(CURVES)}")
    return public  # type: ignore[return-value]


def _check_certificate(signer: Signer, private: EllipticCurvePrivateKey) -> None:
    from cryptography.x509 import load_pem_x509_certificates

    assert signer.certificate is not None
    if signer.password is not None:
        raise _wrong("--certificate", "does not go with an encrypted key: the library cannot decrypt it then")
    try:
        first = load_pem_x509_certificates(_read(signer.certificate))[0]
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or "is no certificate in PEM"
        raise _wrong("--certificate", f"{signer.certificate}: {text}") from error
    if first.public_key() != private.public_key():
        raise _wrong("--certificate", f"{signer.certificate}: its first certificate is not that of {signer.path}")


def _refuse_if_others_may_read(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ValueError(f"others may read or change it (mode {mode:04o}); chmod 600 {path}")


def _read(path: Path) -> bytes:
    with os.fdopen(open_regular(Path(os.path.realpath(path))), "rb") as stream:  # secrets are often mounted as links
        content = stream.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise ValueError("is too large for a key")
    return content


def _pem(public: EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _digest(public: EllipticCurvePublicKey) -> str:
    return hashlib.sha256(_pem(public)).hexdigest()


def _wrong(key: str, message: str) -> ProfileError:
    return ProfileError("command line", [Problem(key, message)])
