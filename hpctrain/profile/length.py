"""How long a run is: one rule for check, trainer and messages."""

from __future__ import annotations

import math

from hpctrain.profile.families import family_of
from hpctrain.profile.schema import Profile


def num_steps(profile: Profile, num_train: int) -> int:
    """Return the number of steps of a run on `num_train` training samples.

    A step of a network is one update; the last one may have fewer samples. A step of a model that learns in rounds is
    one round.
    """
    family, limit = family_of(profile), profile.train.max_steps
    if family.how == "rounds":
        steps = family.num_rounds(profile.model)
    else:
        steps = math.ceil(profile.train.epochs * num_train / profile.global_batch)
    return min(steps, limit or steps)
