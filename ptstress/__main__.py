"""``python -m ptstress``."""

import sys

from ptstress.cli import main

sys.exit(main())
