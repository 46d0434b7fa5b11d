"""From one YAML profile to a trained, checked model of astronomical spectra on a Slurm cluster."""

__version__ = "0.1.0"
