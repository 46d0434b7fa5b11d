"""Make keys, sign a model, a bundle or any file with them, and verify it elsewhere. No network is used.

hpctrain signature keygen --out leads              make leads.key, which stays with you, and leads.pub, which others get
hpctrain signature sign BUNDLE --key leads.key     sign every file of a folder, or one file
hpctrain signature verify BUNDLE --public-key leads.pub

The signature is BUNDLE/signatures/*.sig, or FILE.signatures/*.sig beside a file; copy it along. Versions of the
registry have commands of their own: hpctrain registry sign, and verify --public-key. Exit code 5 means that it is not
signed by a trusted key, or not what was signed. Openssl's keys on the curves P-256, P-384 and P-521 can be used, too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hpctrain.commands.signing_arguments import add_key_arguments, add_public_key_argument, signer_of, trusted_by


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain signature``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "make a pair of keys"
    keygen = actions.add_parser("keygen", help=text, description=text)
    keygen.add_argument("--out", type=Path, required=True, metavar="NAME", help="write NAME.key and NAME.pub")
    text = "sign a folder or a file"
    sign = actions.add_parser("sign", help=text, description=text)
    sign.add_argument("path", type=Path, metavar="PATH", help="bundle, model folder, run directory or file")
    add_key_arguments(sign, is_needed=True)
    text = "verify that a folder or a file is what was signed"
    verify = actions.add_parser("verify", help=text, description=text)
    verify.add_argument("path", type=Path, metavar="PATH", help="what was signed")
    add_public_key_argument(verify, is_needed=True)


def run(arguments: argparse.Namespace) -> int:
    """Do one action."""
    return {"keygen": _keygen, "sign": _sign, "verify": _verify}[arguments.action](arguments)


def _keygen(arguments: argparse.Namespace) -> int:
    from hpctrain.signing.keys import SHORT, make_keys

    private, public = (arguments.out.with_name(f"{arguments.out.name}.{end}") for end in ("key", "pub"))
    digest = make_keys(private, public)
    print(f"{private}: the private key {digest[:SHORT]}; keep it where only you can read it, and a copy offline")
    print(f"{public}: the public key; give it to those who are to verify")
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    from hpctrain.signing.sign import sign_in_place
    from hpctrain.trail.note import note

    signer = signer_of(arguments)
    assert signer is not None
    target = sign_in_place(arguments.path, signer)
    note("sign", arguments.path.absolute(), key=signer.digest)
    print(f"{arguments.path}: signed in {target}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from hpctrain.signing.verify import require_signature

    anchor = require_signature(arguments.path, trusted_by(arguments))
    print(f"{arguments.path}: is what {anchor} has signed")
    return 0
