"""``python -m lpd``: the same entry point as the installed ``lpd`` command."""

import sys

from lpd.cli import main

if __name__ == "__main__":
    sys.exit(main())
