"""Runs a profile twice, the second time interrupted again and again, and reports in a table whether the runs differ."""
