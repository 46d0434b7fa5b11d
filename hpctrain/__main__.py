"""``python -m hpctrain`` is ``hpctrain``."""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 (every Python must be able to read this file)
    sys.exit("hpctrain needs Python 3.10 or newer; {} is Python {}.{}".format(sys.executable, *sys.version_info[:2]))

from hpctrain.cli import main

sys.exit(main())
