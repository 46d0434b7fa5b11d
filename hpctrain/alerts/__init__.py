"""Alerts while a run goes: pure rules over its records, raised once, cleared once, and told to people.

``rules_*.py`` are functions from :class:`~hpctrain.alerts.facts.Facts` to a verdict, and ``rules.py`` lists them with
what Prometheus needs to know the same. ``bell.py`` turns verdicts into alerts with hysteresis, ``tape.py`` keeps what
the rules need of the records, ``judge.py`` is the thread of rank 0, ``beside.py`` what watches from outside of the
ranks, and ``messenger.py`` calls the command and the webhook of the site.
"""
