"""hpctrain as a Python library: what ``import hpctrain`` offers, each loaded when it is first used.

``hpctrain.load`` gives a model, ``hpctrain.Run`` and ``hpctrain.runs`` give runs, ``hpctrain.submit`` starts one.
Nothing here prints; errors are those of :mod:`hpctrain.errors`. docs/python.md shows all of it.
"""
