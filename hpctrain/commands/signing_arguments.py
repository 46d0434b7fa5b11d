"""The arguments of commands that sign something, or that use only what somebody has signed."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import Problem, ProfileError

if TYPE_CHECKING:
    from hpctrain.signing.keys import Anchor, Signer

PASSWORD = "HPCTRAIN_KEY_PASSWORD"
"""Variable of the environment with the password of an encrypted key."""


def add_key_arguments(parser: argparse.ArgumentParser, *, is_needed: bool = False) -> None:
    """Declare the private key that signs, and its certificate."""
    parser.add_argument(
        "--key", type=Path, required=is_needed, metavar="FILE", help="sign with this private key (PEM, mode 0600)"
    )
    parser.add_argument(
        "--certificate", type=Path, metavar="FILE", help="certificate of the key, and those up to the authority (PEM)"
    )


def add_public_key_argument(parser: argparse.ArgumentParser, *, is_needed: bool = False) -> None:
    """Declare the public keys that are trusted."""
    parser.add_argument(
        "--public-key",
        type=Path,
        action="append",
        default=[],
        required=is_needed,
        metavar="FILE",
        help="refuse what this public key, or a key with a certificate of this authority, has not signed (PEM); may be "
        "given again for others that are trusted, too",
    )


def signer_of(arguments: argparse.Namespace) -> Signer | None:
    """Return the private key that the user names; None without ``--key``.

    Raises
    ------
    ProfileError
        It cannot be used.
    """
    if arguments.key is None:
        if arguments.certificate is not None:
            raise ProfileError("command line", [Problem("--certificate", "goes with --key")])
        return None
    from hpctrain.signing.keys import read_signer

    return read_signer(arguments.key, arguments.certificate, _password)


def trusted_by(arguments: argparse.Namespace) -> list[Anchor]:
    """Return the public keys that the user names: on the command line, else in the environment; there may be none."""
    from hpctrain.signing.keys import anchors_of, anchors_of_environment

    return anchors_of(arguments.public_key) if arguments.public_key else anchors_of_environment()


def _password() -> bytes:
    if (given := os.environ.get(PASSWORD)) is not None:
        return given.encode()
    if not sys.stdin.isatty():
        message = f"the key is encrypted, and nobody can be asked for its password; set {PASSWORD}"
        raise ProfileError("command line", [Problem("--key", message)])
    return getpass.getpass("password of the key: ").encode()
