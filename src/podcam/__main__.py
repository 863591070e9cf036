"""`python -m podcam`."""

import sys

from podcam.cli import main

sys.exit(main())
