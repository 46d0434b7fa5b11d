"""In: environment variables of Slurm or torchrun. Out: a :class:`World`, a process group, and one agreed stop."""
