"""In: one YAML file and ``--set`` overrides. Out: a checked, typed :class:`~hpctrain.profile.schema.Profile`."""
