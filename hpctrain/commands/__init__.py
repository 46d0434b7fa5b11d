"""One module per command of ``hpctrain``; ``cli.py`` imports only the module of the command that the user typed."""
