"""The figures of the model, and the shortest way into trouble without a rule: ``python -m model [RULE]``."""

from __future__ import annotations

import sys

from model.protocol import Rules, beginning
from model.search import search


def main() -> None:
    rules = Rules()._replace(**dict.fromkeys(sys.argv[1:], False))
    print(search(beginning(2, 1, ("write", "wait")), rules))


if __name__ == "__main__":
    main()
