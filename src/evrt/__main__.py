"""``python -m evrt``: the command line."""

from __future__ import annotations

from evrt.cli import main

if __name__ == "__main__":
    main()
