"""`python -m vitmsn ...`: see cli.py."""

import sys

from vitmsn.cli import main

sys.exit(main())
