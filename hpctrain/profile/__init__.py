"""Turn one YAML file and ``--set`` overrides into a checked, typed :class:`~hpctrain.profile.schema.Profile`."""
