"""How a golden history is written down: one row of the log per line, and what folding it came to beside it."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from evrt.events import JsonObject, Unknown
from evrt.folds.memory import Memory
from evrt.history import Run
from evrt.log import Recorded
from evrt.log.envelopes import envelopes

FOLDER = Path(__file__).parent
INDEX = FOLDER / "INDEX"
BYTES = ("meta", "salt", "payload")
DIGESTS = ("payload_digest", "leaf")


def to_line(row: Recorded) -> str:
    """A row as JSON: digests in hex, other bytes in base64."""
    fields: dict[str, Any] = row._asdict()
    for name in BYTES:
        fields[name] = None if fields[name] is None else b64encode(fields[name]).decode()
    for name in DIGESTS:
        fields[name] = fields[name].hex()
    return json.dumps(fields)


def from_line(line: str) -> Recorded:
    """The row that a line holds."""
    fields: dict[str, Any] = json.loads(line)
    for name in BYTES:
        fields[name] = None if fields[name] is None else b64decode(fields[name])
    for name in DIGESTS:
        fields[name] = bytes.fromhex(fields[name])
    return Recorded(**fields)


def read(path: Path) -> list[Recorded]:
    """The rows of a history."""
    return [from_line(line) for line in path.read_text(encoding="utf-8").splitlines()]


def folded(log: str, rows: list[Recorded]) -> JsonObject:
    """Everything that folding a history comes to."""
    events = envelopes(rows)
    streams = sorted({event.stream for event in events})
    runs: dict[str, Any] = {}
    memories: dict[str, Any] = {}
    for stream in streams:
        own = [event for event in events if event.stream == stream]
        if stream.startswith("run-"):
            run = Run(stream, own)
            requests = {
                identity: run.request(identity)
                for identity, operation in run.journal.operations.items()
                if operation.kind == "model_call"
            }
            runs[stream] = {
                "state": json.loads(run.state.model_dump_json()),
                "digest": run.digest,
                "messages": run.messages,
                "operations": list(run.journal.operations),
                "order": run.journal.order,
                "requests": requests,
            }
        elif stream.startswith("memory-"):
            memory = Memory()
            for event in own:
                memory.apply(event)
            memories[stream] = {key: item.value for key, item in memory.items.items()}
    return {
        "log": log,
        "events": len(events),
        "types": sorted({event.type for event in events}),
        "unknown": [event.position for event in events if isinstance(event.event, Unknown)],
        "erased": [row.position for row in rows if row.payload is None],
        "runs": runs,
        "memories": memories,
    }


def files() -> list[Path]:
    """Every file of every history, in order of name."""
    return sorted([*FOLDER.glob("*.jsonl"), *FOLDER.glob("*.expected.json")])


def index() -> str:
    """What INDEX has to hold: a line per file with its SHA-256."""
    return "".join(map(line_of, files()))


def line_of(path: Path) -> str:
    """A file's line in INDEX."""
    return f"{sha256(path.read_bytes()).hexdigest()}  {path.name}\n"


def enter(name: str) -> None:
    """Add a new history to INDEX. The lines of the others stay, so that one that was edited is still found out."""
    lines = INDEX.read_text(encoding="utf-8").splitlines(keepends=True) if INDEX.exists() else []
    lines += [line_of(FOLDER / f"{name}{suffix}") for suffix in (".expected.json", ".jsonl")]
    INDEX.write_text("".join(sorted(lines, key=lambda line: line.split()[1])), encoding="utf-8")
