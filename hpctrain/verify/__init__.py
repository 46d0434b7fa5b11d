"""In: a profile. Out: two runs of it, one of them killed again and again, and a table that says whether they differ."""
