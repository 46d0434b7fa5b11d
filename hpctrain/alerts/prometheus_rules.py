"""Write the alerts as rules of Prometheus, from the same list as the trainer's own."""

from __future__ import annotations

import yaml

from hpctrain.alerts.rules import RULES, Rule
from hpctrain.profile.sections.alerts import AlertsSection

GROUP = "hpctrain"
_HEAD = """\
# Rules for Prometheus, written by `hpctrain monitor --rules`. Name this file under rule_files in prometheus.yml.
# `promtool check rules FILE` checks it. An alert fires if hpctrain itself has raised it, or if the numbers say so.
"""


def rules_file(limits: AlertsSection) -> str:
    """Return the text of a file of rules.

    Parameters
    ----------
    limits : AlertsSection
        Thresholds, such as those of a site.
    """
    rules = [_entry(rule, limits) for rule in RULES if rule.name not in limits.off and rule.promql(limits)]
    document = {"groups": [{"name": GROUP, "rules": rules}]}
    return _HEAD + yaml.safe_dump(document, sort_keys=False, width=1000, allow_unicode=True)


def title_of(rule: Rule) -> str:
    """Return the name of a rule as Prometheus has them: ``HpctrainIdleGpu``."""
    return "Hpctrain" + "".join(word.capitalize() for word in rule.name.split("-"))


def _entry(rule: Rule, limits: AlertsSection) -> dict[str, object]:
    return {
        "alert": title_of(rule),
        "expr": rule.promql(limits),
        "labels": {"severity": rule.severity, "alert": rule.name},
        "annotations": {
            "summary": f"{{{{ $labels.run }}}}: {rule.meaning.rstrip('.')}",
            "description": f"{rule.meaning} `hpctrain status` of the run says more.",
        },
    }
