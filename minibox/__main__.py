# SPDX-License-Identifier: Apache-2.0
"""`python -m minibox`, and what the command starts, without site (csrc/start.c)."""

import os
import sys

if "site" not in sys.modules:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from minibox.cli import main

if __name__ == "__main__":
    main(sys.argv[1:])
