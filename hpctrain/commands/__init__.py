"""One module per command of ``hpctrain``; ``cli.py`` imports only the one that is asked for."""
