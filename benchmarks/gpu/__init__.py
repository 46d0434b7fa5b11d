"""Prove hpctrain on a GPU: is it correct there, is it fast, and is what it says of memory and energy true?"""
