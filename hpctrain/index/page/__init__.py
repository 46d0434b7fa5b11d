"""One HTML page of all runs, to look for runs and to compare some of them."""
