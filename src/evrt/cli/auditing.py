"""Keys, heads and proofs of the tree: ``evrt audit keygen``, ``head`` and ``prove``."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from evrt.audit.checkpoint import Checkpoint, parse_checkpoint
from evrt.audit.folder import CHECKPOINT, Head, TreeFolder, tree_folder
from evrt.audit.growth import grow, sign
from evrt.audit.note import SignerKey, VerifierKey, make_key, parse_signer, parse_verifier, to_base64
from evrt.audit.proof import ConsistencyProof, InclusionProof, Proof
from evrt.audit.proving import prove_consistency, prove_inclusion
from evrt.cli.output import note, out, out_json, paint, progress
from evrt.cli.place import Place, drive
from evrt.errors import Conflict, Denied, EvrtError, InvalidInput, NotFound, Unavailable, UsageError
from evrt.history import find_run
from evrt.log.address import is_postgres, parse_url
from evrt.log.walk import open_rows

T = TypeVar("T")

KEY_MODE = 0o600
VKEY_MODE = 0o644
VKEY_SUFFIX = ".vkey"
FILE_BYTES_MAX = 1_000_000


def folder_of(url: str, named: Path | None) -> TreeFolder:
    """The tree folder of a log, or the one that was named."""
    if is_postgres(url):
        if named is None:
            raise UsageError(
                "A log on PostgreSQL has no folder beside it: name the folder of its tree with --tree. That of the log "
                "it was copied from is as good, for the leaves are the same."
            )
        return TreeFolder(named.absolute())
    path = parse_url(url)
    if path is None:
        raise UsageError("A log in memory has no tree; give the URL of a file.")
    return TreeFolder(tree_folder(path) if named is None else named.absolute())


def default_origin(log: str) -> str:
    """What a log is called where nobody has chosen a name for it."""
    return f"evrt/{log}"


# --------------------------------------------------------------------------------------------------- keys


def make_key_file(place: Place, file: Path, name: str | None, *, as_json: bool) -> None:
    """Make a key, keep its private half, print its public one."""
    if name is None:
        with open_rows(place.existing_url(), "The log's id could not be read") as log:
            name = default_origin(log.id)
    key = make_key(name)
    vkey, vkey_file = str(key.verifier), file.with_name(f"{file.name}{VKEY_SUFFIX}")
    # The public half first: where that is in the way, there is no private one to clean up.
    _write_new(vkey_file, f"{vkey}\n".encode(), VKEY_MODE)
    try:
        _write_new(file, f"{key.encoded()}\n".encode(), KEY_MODE)
    except EvrtError:
        vkey_file.unlink()
        raise
    if as_json:
        out_json({"file": str(file), "name": key.name, "vkey": vkey, "vkey_file": str(vkey_file)})
        return
    out(vkey)
    note(
        f"The private key is in {file}: keep it from whoever writes the log. Its vkey, printed above, is in "
        f"{vkey_file}: give it to auditors, by another way than the checkpoints."
    )


def _write_new(file: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise Conflict(
            f"There is a file {file} already, and a key is never overwritten. Name another."
        ) from None
    except FileNotFoundError:
        raise NotFound(f"There is no folder {file.absolute().parent} for the key. Create it first.") from None
    except PermissionError:
        raise Denied(f"The key cannot be written to {file}: this user has no permission to.") from None
    except OSError as error:
        raise Unavailable(f"The key cannot be written to {file}: {error.strerror}.") from None
    with open(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(descriptor)


def read_signer(file: Path) -> SignerKey:
    """The private key in a file. Raises NotFound, Denied, InvalidInput."""
    key = _parsed(file, lambda content: parse_signer(content.decode("ascii", "replace")))
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        note(paint(f"Others may read the private key {file}: chmod 600 {file}", "yellow", sys.stderr))
    return key


def read_verifier(given: str) -> VerifierKey:
    """A verifier key: itself, or the file that holds it."""
    if "+" in given and not os.path.exists(given):
        return parse_verifier(given)
    return _parsed(Path(given), lambda content: parse_verifier(content.decode("utf-8", "replace")))


def read_checkpoint(file: Path) -> Checkpoint:
    """The checkpoint in a file. Raises NotFound, Denied, InvalidInput."""
    return _parsed(file, parse_checkpoint)


def read_file(file: Path) -> bytes:
    """A small file. Raises NotFound, Denied, InvalidInput, Unavailable."""
    try:
        with open(file, "rb") as opened:
            content = opened.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise NotFound(f"There is no file {file}.") from None
    except PermissionError:
        raise Denied(f"The file {file} cannot be read: this user has no permission to.") from None
    except OSError as error:
        raise Unavailable(f"The file {file} cannot be read: {error.strerror}.") from None
    if len(content) > FILE_BYTES_MAX:
        raise InvalidInput(f"{file}: it is larger than anything that is expected here.")
    return content


def _parsed(file: Path, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(read_file(file))
    except InvalidInput as error:
        raise InvalidInput(f"{file}: {error}") from None


# --------------------------------------------------------------------------------------------------- head


def show_head(place: Place, named: Path | None, key_file: Path | None, *, as_json: bool) -> None:
    """Bring the tree up to date, sign it where there is a key, and print what it came to."""
    url = place.existing_url()
    folder = folder_of(url, named)
    key = None if key_file is None else read_signer(key_file)
    with progress("Growing the tree") as advance:
        head = grow(url, folder, progress=advance)
    signed = None if key is None else sign(folder, key)
    if as_json:
        out_json(_head_document(folder, head, key, signed))
    elif signed is not None:
        out(signed.content.rstrip("\n"))
    else:
        out(f"log   {head.log}")
        out(f"size  {head.size}")
        out(f"root  {to_base64(head.root)}")
        note("Nobody has signed it. `evrt audit head --key FILE` makes a checkpoint to keep elsewhere.")


def _head_document(
    folder: TreeFolder, head: Head, key: SignerKey | None, signed: Checkpoint | None
) -> object:
    # Between growing and signing somebody else may have added to the tree.
    size, root = (head.size, head.root) if signed is None else (signed.size, signed.root)
    return {
        "log": head.log,
        "size": size,
        "root": to_base64(root),
        "tree": str(folder.path),
        "origin": None if signed is None else signed.origin,
        "vkey": None if key is None else str(key.verifier),
        "checkpoint": None if signed is None else signed.content,
    }


# -------------------------------------------------------------------------------------------------- proofs


def show_proofs(
    place: Place,
    named: Path | None,
    what: str | None,
    *,
    old: Path | None,
    checkpoint: Path | None,
    as_json: bool,
) -> None:
    """Print the proofs that were asked for, each as a file of its own would hold it."""
    if what is None and old is None:
        raise UsageError(
            "What is to be proved? Name an event by its position or as RUN@N, or an earlier checkpoint with --old."
        )
    url = place.existing_url()
    folder = folder_of(url, named)
    earlier = None if old is None else read_checkpoint(old)
    newest = _newest(folder) if checkpoint is None else read_checkpoint(checkpoint)
    proofs: list[Proof] = []
    if what is not None:
        proofs.append(prove_inclusion(url, folder, _position(place, what), newest))
    if earlier is not None:
        proofs.append(prove_consistency(folder, earlier, newest))
    if as_json:
        out_json({"checkpoint": newest.content, "size": newest.size} | dict(map(_proof_document, proofs)))
    else:
        out("\n".join(proof.encoded() for proof in proofs).rstrip("\n"))


def _newest(folder: TreeFolder) -> Checkpoint:
    content = folder.checkpoint()
    if content is None:
        raise NotFound(
            f"{folder.path} has no signed checkpoint to prove anything under. `evrt audit head --key FILE` signs one."
        )
    try:
        return parse_checkpoint(content)
    except InvalidInput as error:
        raise InvalidInput(f"{folder.path / CHECKPOINT}: {error}") from None


def _position(place: Place, what: str) -> int:
    if what.isdecimal():
        return int(what)
    return drive(_position_in_run(place, what))


async def _position_in_run(place: Place, revision: str) -> int:
    async with place.reading() as log:
        return (await find_run(log, revision)).events[-1].position


def _proof_document(proof: Proof) -> tuple[str, object]:
    path = [to_base64(hash_) for hash_ in proof.path]
    match proof:
        case InclusionProof(index=index):
            return "inclusion", {
                "position": index + 1,
                "index": index,
                "path": path,
                "proof": proof.encoded(),
            }
        case ConsistencyProof(old=old):
            return "consistency", {"old": old, "path": path, "proof": proof.encoded()}
