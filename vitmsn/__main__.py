"""`python -m vitmsn ...`: see cli/."""

import sys

from vitmsn.cli import main

sys.exit(main())
