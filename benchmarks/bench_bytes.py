"""How many bytes does the log grow per step, beyond its payload, and does it stay flat?

Two kinds of step: a tool that reads, and a turn of an agent (a model call and a tool call), each
measured at 100 and at 1,000 steps of one run. Bytes are those of the database file after a checkpoint
of the WAL, divided by steps. The payload that is taken off is what the code gave and got: arguments,
results, messages. The baseline is the table of raw SQLite rows with that payload alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import evrt
from evrt.testing import ScriptedModel, call
from harness import print_table

RESULT = "x" * 200
STEPS = (100, 1_000)
STEPS_QUICK = (10, 50)


@evrt.tool(effect="read")
async def look(n: int) -> str:
    """Give back two hundred characters."""
    return RESULT


def one_more_look(request: evrt.ModelRequest) -> Any:
    return [call("look", n=len(request.messages))]


def make_app(path: Path, turns: int) -> evrt.App:
    app = evrt.App(f"sqlite:///{path}", models={"script": ScriptedModel(one_more_look)})
    app.agent("turns", model="script", tools=[look], model_turns_max=turns, timeout=None)

    @app.workflow(timeout=None)
    async def steps(ctx: evrt.Context[None], count: int) -> None:
        for n in range(count):
            await ctx.call(look, n=n)

    return app


async def grow(target: str, count: int) -> tuple[float, float]:
    """Bytes per step of the file, and of the payload that the code gave and got."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        async with make_app(path, count) as app:
            given: object = count if target == "steps" else "Look."
            await app.run(target, given)
        size = path.stat().st_size
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT type, payload FROM events").fetchall()
        connection.close()
        return size / count, sum(given_and_got(type_, json.loads(payload)) for type_, payload in rows) / count


def given_and_got(type_: str, payload: dict[str, Any]) -> int:
    """Bytes of arguments, results and messages in an event."""
    parts = {
        "tool_call.requested": "arguments",
        "tool_call.completed": "result",
        "model_call.completed": "message",
    }
    return len(json.dumps(payload[parts[type_]])) if type_ in parts else 0


def raw(payload_bytes: float, count: int) -> float:
    """Bytes per row of a bare table that holds as much payload."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw.db"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, payload BLOB)")
        connection.executemany(
            "INSERT INTO rows (payload) VALUES (?)", [(bytes(int(payload_bytes)),)] * count
        )
        connection.commit()
        connection.close()
        return path.stat().st_size / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for target in ("steps", "turns"):
        for count in STEPS_QUICK if options.quick else STEPS:
            size, payload = asyncio.run(grow(target, count))
            found.append(
                {
                    "what": target,
                    "steps": count,
                    "bytes": round(size),
                    "payload": round(payload),
                    "beyond": round(size - payload),
                    "raw": round(raw(payload, count)),
                }
            )
    if options.json:
        print(json.dumps(found, indent=2))
        return
    table = [["", "steps", "bytes per step", "of it payload", "beyond payload", "bare table"]]
    table += [
        [row["what"], *(f"{row[key]:,}" for key in ("steps", "bytes", "payload", "beyond", "raw"))]
        for row in found
    ]
    print_table(table)


if __name__ == "__main__":
    main()
