"""Passwords, tokens and keys: what they look like, and how to keep them out of all that hpctrain writes.

``patterns`` knows what credentials look like, ``known`` those of the environment, ``hide`` replaces them in texts,
``urls`` takes them out of addresses, and ``scan``, ``files`` and ``archives`` look for them in files.
"""
