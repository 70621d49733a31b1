"""`python -m ipvsca` is `ipvsca`."""

import sys

from ipvsca.cli import main

sys.exit(main())
