"""Turn the environment variables of Slurm or torchrun into a :class:`World`, a process group and one agreed stop."""
