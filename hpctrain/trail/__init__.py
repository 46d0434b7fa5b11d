"""The audit trail: who submitted, cancelled, promoted, signed or deleted what, and when.

The trail lies in the folder of the registry. It is a package of its own, below the registry, because those that do the
deed record it: the launcher, studies, pipelines and the registry. So the commands and the Python interface leave the
same entries.
"""
