"""Signatures of models, bundles and files, in the format of the OpenSSF (model-signing), with keys of one's own.

A signature is a file ``<key>.sig`` that lists the SHA-256 of every file. It lies in ``signatures/`` of a signed folder,
in ``FILE.signatures/`` beside a signed file, and in the registry beside a version. `key` is the beginning of the
SHA-256 of the public key, so several people can sign the same thing. Nothing here uses the network.
"""
