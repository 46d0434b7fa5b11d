"""The rules, by theme. Importing this package fills :data:`hpctrain.lint.rule.RULES`, in the order of the page."""

from __future__ import annotations

# isort: off
from hpctrain.lint.rules import header as header
from hpctrain.lint.rules import requests as requests
from hpctrain.lint.rules import ranks as ranks
from hpctrain.lint.rules import network as network
from hpctrain.lint.rules import signals as signals
from hpctrain.lint.rules import requeue as requeue
from hpctrain.lint.rules import exits as exits
from hpctrain.lint.rules import files as files
from hpctrain.lint.rules import environment as environment
from hpctrain.lint.rules import frameworks as frameworks
