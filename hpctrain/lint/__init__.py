"""Traps in batch scripts of Slurm, found by reading them: ``hpctrain lint``.

``words`` and ``shell`` read the commands, ``header`` the ``#SBATCH`` lines, ``launches`` what is started through what;
``script`` joins them. Each module of ``rules`` holds the rules of one theme.
"""
