"""What builds a container image with hpctrain: a Dockerfile, an Apptainer definition, and the files that they copy."""
