"""``python -m hpctrain`` is ``hpctrain``."""

import sys

from hpctrain.cli import main

sys.exit(main())
