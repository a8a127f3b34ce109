"""``python -m mynah`` is the command ``mynah``."""

from __future__ import annotations

import sys

from mynah.cli import main

sys.exit(main())
