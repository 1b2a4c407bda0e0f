"""Write a log in today's format: ``python tests/formats/make.py``, once for each version of the schema.

One that exists is never written again: it is what some version of evrt really wrote.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from evrt.log.sqlite.schema import SCHEMA_VERSION
from formats.travel import fill, travel_app

if __name__ == "__main__":
    path = Path(__file__).parent / f"v{SCHEMA_VERSION}.db"
    if path.exists():
        sys.exit(f"{path} exists already, and stays as it is.")
    asyncio.run(fill(travel_app(f"sqlite:///{path}")))
    Path(f"{path}-lock").unlink()
