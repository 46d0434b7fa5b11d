"""The index: what the folders of runs, studies, pipelines and a registry hold, in SQL.

The disk is the truth. The index is made from it, can be made again at any time, and nothing else reads it: a run, a
submission and a study go on without it. A *unit* is what is read at once: a run directory, the folder of a study or
of one time through a pipeline, a model of a registry, an audit trail. Its *fingerprint* says whether its files have
changed since it was read. Needs ``hpctrain[index]``; no torch here.
"""
