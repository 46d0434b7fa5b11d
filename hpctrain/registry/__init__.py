"""Numbered versions of finished models that never change, and aliases such as ``champion`` that say which one is used.

::

    registry/
      registry.yaml                      who may move which alias, and which aliases need gates; optional
      models/<name>/versions/<number>/   one version: laid out like a run directory, and MANIFEST.json beside it
      models/<name>/aliases/<alias>/     00000001.json ...: every move of the alias; the last one is valid
  audit.jsonl                        who did what: a chain of entries that only grows
  data/<sha256>.npz                  the objects of the data files of versions, and the raw files they came from

Every file of a version or an alias gets its name when it is whole, by a rename or a hard link, and is never changed
afterwards. So a process that is killed loses nothing, and several users can write at once, also on NFS.
"""
