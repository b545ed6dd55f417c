"""`python -m bert_handler`: the command line where the console script is not on the PATH."""

from __future__ import annotations

import sys

from bert_handler.cli import main

if __name__ == "__main__":
    sys.exit(main())
