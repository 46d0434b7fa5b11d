"""Which interval a metric gets, by how it behaves. R rows, G objects, D draws, K sums.

==========  ===================================================================================================
`SHARE`     Wilson's interval, with the number of rows divided by the design effect of the objects
`OVERLAP`   F1 = 2 J / (1 + J) of the ends of Wilson's interval of the overlap J
`MEAN`      t interval with the standard error over objects: for what is skewed neither way
`SKEWED`    bootstrap-t, on the scale of the metric: for means and functions of them
`BOUNDED`   t interval of the logit, with the standard error of the draws: for what is between 0 and 1
`RANKED`    the same, with as many degrees of freedom as the rarer of positives and negatives has objects
`ORDER`     bias-corrected percentiles of the draws: for medians and robust scatters
`DISTANCE`  the metric plus and minus the band that holds the whole distribution: conservative
`EDGE`      percentiles of the draws or Wilson's interval, marked: a few objects set the limit of the recall
==========  ===================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping

from hpctrain.validation.rule import Data, Rule, Wilson, WilsonOfOverlap
from hpctrain.validation.rules_of_draws import Band, Edge, Logit, LogitOfRanking, Percentiles
from hpctrain.validation.rules_of_sums import BootstrapT, Student
from hpctrain.validation.tasks.task import (
    BOUNDED,
    DISTANCE,
    EDGE,
    MEAN,
    ORDER,
    OVERLAP,
    RANKED,
    SHARE,
    SKEWED,
    Statistic,
)

_RULES: Mapping[str, type[Rule]] = {
    SHARE: Wilson,
    OVERLAP: WilsonOfOverlap,
    MEAN: Student,
    SKEWED: BootstrapT,
    BOUNDED: Logit,
    RANKED: LogitOfRanking,
    ORDER: Percentiles,
    DISTANCE: Band,
    EDGE: Edge,
}


def rule_of(statistic: Statistic, data: Data) -> Rule:
    """Return the interval of a metric that is computed like this."""
    return _RULES[statistic.how](statistic, data)
