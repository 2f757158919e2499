"""``python -m sciad``, the same as the command ``sciad``."""

import sys

from sciad.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
