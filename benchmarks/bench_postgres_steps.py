"""How many durable steps per second on PostgreSQL, one after another and with 50 runs at once, beside DBOS?

A step is a call of a tool that reads; for DBOS a function under @DBOS.step. Raw is psycopg alone on one connection, one
row in a commit or a hundred by COPY. All work on one server in the same rounds; client and server share the machine
and talk by a socket. The server is the tests' own, and it syncs. DBOS runs in a venv of its own, which is made the
first time; --no-dbos leaves it out.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time

from against.install import HERE, NotInstalled, install, python_of
from bench_postgres_log import raw
from bench_steps import EVENTS_PER_STEP, RUNS, make_app
from harness import Bench, Case, Ratio
from queued import postgres_url

DBOS_SEQUENTIAL_GOAL = 8
DBOS_CONCURRENT_GOAL = 30


async def measure(url: str, runs: int, seconds: float) -> float:
    """Steps per second of so many runs at once, the first moments left out."""
    async with make_app(url) as app:
        await app.run("steps", time.perf_counter() + 0.1)
        start = time.perf_counter()
        results = await asyncio.gather(*(app.run("steps", start + seconds) for _ in range(runs)))
        spent = time.perf_counter() - start
        steps: int = sum(result.unwrap() for result in results)
        return steps / spent


def evrt(runs: int, seconds: float) -> float:
    with postgres_url() as url:
        return asyncio.run(measure(url, runs, seconds))


def dbos(measure: str, seconds: float) -> float:
    """As ``python -m against`` asks its worker, on a database schema of its own."""
    with postgres_url() as url, tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                python_of("dbos"),
                "-m",
                "against.systems.dbos",
                measure,
                "--variant=postgres",
                f"--seconds={seconds}",
                f"--folder={folder}",
            ],
            env=os.environ | {"PYTHONPATH": str(HERE.parent), "AGAINST_POSTGRES": url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"DBOS could not be measured:\n{done.stderr.strip()[-2_000:]}")
        sample = json.loads(done.stdout.splitlines()[-1])
        if sample["stored"] < sample["done"]:
            raise SystemExit(f"DBOS says it did {sample['done']} steps and has stored {sample['stored']}.")
        return float(sample["value"])


def main() -> None:
    with_dbos = "--no-dbos" not in sys.argv
    argv = [argument for argument in sys.argv[1:] if argument != "--no-dbos"]
    bench = Bench(__doc__, "per second", argv=argv)
    cases = [
        Case("raw, 1-row commits", lambda seconds: raw(1, seconds)),
        Case("steps, one after another", lambda seconds: evrt(1, seconds)),
        Case("raw, COPY of 100 rows", lambda seconds: raw(100, seconds)),
        Case("steps, 50 runs at once", lambda seconds: evrt(RUNS, seconds)),
    ]
    ratios = [
        Ratio("steps, one after another", "raw, 1-row commits"),
        Ratio("steps, 50 runs at once", "raw, COPY of 100 rows"),
    ]
    if with_dbos:
        try:
            install("dbos", lambda text: print(text, file=sys.stderr))
        except NotInstalled as error:
            raise SystemExit(f"DBOS could not be set up; --no-dbos leaves it out:\n{error}") from error
        cases += [
            Case("DBOS, one after another", lambda seconds: dbos("steps", seconds)),
            Case("DBOS, 50 runs at once", lambda seconds: dbos("many", seconds)),
        ]
        ratios += [
            Ratio("steps, one after another", "DBOS, one after another", DBOS_SEQUENTIAL_GOAL),
            Ratio("steps, 50 runs at once", "DBOS, 50 runs at once", DBOS_CONCURRENT_GOAL),
        ]
    bench.run(cases, ratios)
    print(f"A step is {EVENTS_PER_STEP} events of evrt's, and one row of DBOS's.", file=sys.stderr)


if __name__ == "__main__":
    main()
