"""`python -m talker` is the command `talker`."""

import sys

from talker.cli import main

sys.exit(main())
