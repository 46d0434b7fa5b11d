"""A pipeline handed over to an orchestrator or a forge, as the text of a file.

No platform's own library is needed to write it. Each stage is one call of ``hpctrain pipeline FILE --stage NAME --id
ID``, so caching, logs and results are the same as without an orchestrator, which only orders, schedules and shows.
"""
