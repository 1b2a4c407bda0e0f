"""Verifying a log for somebody who may not believe it: ``evrt audit verify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evrt.audit.note import to_base64
from evrt.audit.proof import parse_proofs
from evrt.audit.verifying import Held, HeldProof, Verdict, verify
from evrt.cli.auditing import folder_of, read_checkpoint, read_file, read_verifier
from evrt.cli.output import out, out_json, paint, progress
from evrt.cli.place import Place
from evrt.cli.text import counted
from evrt.errors import InvalidInput, UsageError
from evrt.log.postgres.address import shown_url

SOUND = 0
UNSOUND = 1


def verify_log(
    place: Place,
    named: Path | None,
    checkpoints: Sequence[Path],
    proofs: Sequence[Path],
    vkey: str | None,
    *,
    as_json: bool,
) -> int:
    """Print what a log is worth as evidence; returns the exit code."""
    if bool(checkpoints or proofs) != (vkey is not None):
        raise UsageError(
            "A checkpoint or proof is worth what its signature is: give --checkpoint or --proof together with --vkey, "
            "the verifier key that `evrt audit keygen` printed."
        )
    url = place.existing_url()
    folder = folder_of(url, named)
    key = None if vkey is None else read_verifier(vkey)
    held = [Held(str(file), read_checkpoint(file)) for file in checkpoints]
    held_proofs = [proof for file in proofs for proof in _read_proofs(file)]
    with progress("Verifying") as advance:
        verdict = verify(url, folder, key=key, checkpoints=held, proofs=held_proofs, progress=advance)
    if as_json:
        out_json(_document(shown_url(url), verdict))
    else:
        _out_verdict(shown_url(url), verdict)
    return SOUND if verdict.ok else UNSOUND


def _read_proofs(file: Path) -> list[HeldProof]:
    try:
        return [
            HeldProof(str(file), proof) for proof in parse_proofs(read_file(file).decode("utf-8", "replace"))
        ]
    except InvalidInput as error:
        raise InvalidInput(f"{file}: {error}") from None


def _word(verdict: Verdict) -> str:
    if not verdict.ok:
        return "REJECTED"
    return "UNANCHORED" if verdict.anchored is None else "ANCHORED"


def _meaning(verdict: Verdict) -> str:
    events = verdict.report.events
    if not verdict.ok:
        return "what follows does not agree."
    if verdict.anchored is None:
        return (
            "log and leaves agree with one another, and nothing from outside was given to hold them against: whoever "
            "owns the log could have written all of it anew."
        )
    rest = events - verdict.anchored
    after = (
        f"the {counted(rest, 'event')} after it are not covered"
        if rest > 1
        else "the one after it is not covered"
    )
    return (
        f"nothing up to position {verdict.anchored} has changed since the checkpoint was signed"
        f"{f'; {after}' if rest else ''}."
    )


def _out_verdict(url: str, verdict: Verdict) -> None:
    style = "bold red" if not verdict.ok else "yellow" if verdict.anchored is None else "green"
    tree = verdict.tree
    out(f"{url}: {counted(verdict.report.events, 'event')}, root {to_base64(verdict.root)}")
    out(f"tree folder: {'none' if tree is None else counted(tree.size, 'leaf', 'leaves')}")
    out(f"{paint(_word(verdict), style)}: {_meaning(verdict)}")
    for finding in verdict.findings:
        where = "" if finding.position is None else f"position {finding.position}: "
        out(f"  {paint(where, 'bold')}{paint(finding.text)}")
    if verdict.findings_left_off:
        out(f"  and {verdict.findings_left_off} more.")


def _document(url: str, verdict: Verdict) -> object:
    return {
        "url": url,
        "log": verdict.report.log,
        "ok": verdict.ok,
        "verdict": _word(verdict).lower(),
        "events": verdict.report.events,
        "erased": verdict.report.erased,
        "root": to_base64(verdict.root),
        "tree_size": None if verdict.tree is None else verdict.tree.size,
        "anchored": verdict.anchored,
        "findings": [finding._asdict() for finding in verdict.findings],
        "findings_left_off": verdict.findings_left_off,
    }
