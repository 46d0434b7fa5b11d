"""What may be wrong with a run, and what to change: rules over a summary of its own records.

`gather.summarise` reads a run directory into a `summary.RunSummary`. A rule is a pure function of it that returns an
`advice.Advice` or None. To add a rule, write the function in one of the ``rules_*`` modules, name it in
`advise.RULES`, and add a run that suffers to ``benchmarks/advice.py``.
"""
