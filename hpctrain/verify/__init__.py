"""Run a profile twice, interrupt the second run many times, and report in a table whether the results differ."""
