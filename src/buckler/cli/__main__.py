"""``python -m buckler.cli``."""

import sys

from buckler.cli import main

sys.exit(main())
