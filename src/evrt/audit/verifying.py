"""Verifies a log: every leaf computed again from the rows, the tree folder compared, checkpoints held against it.

What the file and the folder say of themselves proves nothing against whoever owns them. Only a
checkpoint that was kept elsewhere does, and only for the events that it covers; without one the
verdict is *unanchored*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from evrt.audit.checkpoint import Checkpoint, parse_checkpoint
from evrt.audit.folder import Head, TreeFolder, tile_name
from evrt.audit.note import VerifierKey
from evrt.audit.proof import ConsistencyProof, InclusionProof, Proof
from evrt.audit.tiles import ENTRIES, HEIGHT, WIDTH, GrowingTree, Tile, split_bundle, split_hashes
from evrt.audit.tree import EMPTY_ROOT, root_at
from evrt.errors import InvalidInput, TreeDisagrees
from evrt.log.check import FINDINGS_MAX, CheckReport, Finding, Progress, check
from evrt.log.walk import Proved


class Held(NamedTuple):
    """A checkpoint that was kept outside, under the name its holder gives it."""

    name: str
    checkpoint: Checkpoint


class HeldProof(NamedTuple):
    """A proof that was kept outside."""

    name: str
    proof: Proof


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification came to.

    ``anchored`` is the size of the largest checkpoint from outside that the log agrees with; ``tree``
    the head of the tree folder, where there is one.
    """

    report: CheckReport
    root: bytes
    tree: Head | None
    anchored: int | None
    findings: tuple[Finding, ...]
    findings_left_off: int

    @property
    def ok(self) -> bool:
        return not self.findings


def verify(
    url: str,
    folder: TreeFolder,
    *,
    key: VerifierKey | None = None,
    checkpoints: Sequence[Held] = (),
    proofs: Sequence[HeldProof] = (),
    progress: Progress | None = None,
) -> Verdict:
    """Verify the log at this URL against its tree folder, and against what was kept outside of both.

    ``key`` is whose signature checkpoints and proofs have to carry. Blocks; needs no more memory for a
    long log than for a short one. Raises NotFound, Denied, Unavailable, UnusableLog, UsageError.
    """
    assert key is not None or not (checkpoints or proofs), "A checkpoint is held against a key."
    held = [*checkpoints, *(Held(name, proof.checkpoint) for name, proof in proofs)]
    return _Verification(url, folder, key, held, proofs).run(progress)


@dataclass(slots=True)
class _Verification:
    url: str
    folder: TreeFolder
    key: VerifierKey | None
    held: Sequence[Held]
    proofs: Sequence[HeldProof]
    head: Head | None = None
    """Of the tree folder."""
    tree: GrowingTree = field(init=False)
    """The one that the log's rows come to."""
    roots: dict[int, bytes] = field(default_factory=dict)
    """Roots of the log's first events, for the sizes that somebody has signed."""
    leaves: dict[int, bytes] = field(default_factory=dict)
    """Leaves that somebody has a proof for, by index."""
    findings: list[Finding] = field(default_factory=list)
    differences: list[Finding] = field(default_factory=list)
    """Of the tiles, one for each event: there may be more than can be listed."""
    left_off: int = 0

    def run(self, progress: Progress | None) -> Verdict:
        self.tree = GrowingTree(self.compare)
        self.head = self.guarded(self.folder.head)
        own = self.own_checkpoint()
        signed = [one.checkpoint.size for one in (*self.held, *own)]
        old = [one.proof.old for one in self.proofs if isinstance(one.proof, ConsistencyProof)]
        self.roots = dict.fromkeys([0, *signed, *old, *([self.head.size] if self.head else [])], b"")
        self.roots[0] = EMPTY_ROOT
        self.leaves = dict.fromkeys(
            (one.proof.index for one in self.proofs if isinstance(one.proof, InclusionProof)), b""
        )
        report = check(self.url, progress=progress, proved=self.take)
        self.tree_folder(report)
        self.hold(own)
        anchored = self.anchored()
        for proof in self.proofs:
            self.proof(proof)
        return Verdict(
            report=report,
            root=self.tree.root(),
            tree=self.head,
            anchored=anchored,
            findings=(*self.findings, *report.findings, *self.differences),
            findings_left_off=report.findings_left_off + self.left_off,
        )

    def found(self, position: int | None, text: str) -> None:
        self.findings.append(Finding(position, text))

    def differs(self, position: int | None, text: str) -> None:
        if len(self.differences) < FINDINGS_MAX:
            self.differences.append(Finding(position, text))
        else:
            self.left_off += 1

    def take(self, proved: Proved) -> None:
        """One event more."""
        if self.tree.size in self.leaves:
            self.leaves[self.tree.size] = proved.leaf
        self.tree.add(proved.leaf, proved.entry)
        size = self.tree.size
        if size in self.roots:
            self.roots[size] = self.tree.root()
        if self.head is not None and size == self.head.size:
            for tile, content in self.tree.unfinished():
                self.compare(tile, content)

    # --------------------------------------------------------------------------- the tree folder

    def tree_folder(self, report: CheckReport) -> None:
        head = self.head
        if head is None:
            return
        if head.log != report.log:
            self.found(None, f"The tree folder belongs to another log: {head.log}.")
        if head.size > self.tree.size:
            self.found(
                None,
                f"The tree has {head.size} leaves and the log {self.tree.size} events: events "
                f"{self.tree.size + 1} to {head.size} are missing from the end of the log.",
            )
        elif self.roots[head.size] != head.root:
            self.found(
                None, f"The tree folder names another root than the log's first {head.size} events have."
            )

    def compare(self, tile: Tile, content: bytes) -> None:
        """See whether the folder has this tile, as far as it goes."""
        head = self.head
        if head is None or tile.number * WIDTH + tile.width > head.size >> HEIGHT * max(tile.level, 0):
            return
        there = self.guarded(lambda: self.folder.content(tile, head.size))
        if there is None:
            self.differs(None, f"The tree folder lacks the {tile_name(tile)}.")
        elif not there.startswith(content):
            self.different(tile, content, there)

    def different(self, tile: Tile, content: bytes, there: bytes) -> None:
        """Name the events that the folder has otherwise."""
        what = "entry" if tile.level == ENTRIES else "leaf"
        if tile.level > 0:
            self.differs(None, f"The {tile_name(tile)} does not hold the hashes of the tiles below it.")
            return
        split = split_bundle if tile.level == ENTRIES else split_hashes
        try:
            theirs = split(there)
        except ValueError as error:
            self.differs(None, f"The {tile_name(tile)} is damaged: {error}.")
            return
        for number, ours in enumerate(split(content)):
            if number >= len(theirs) or theirs[number] != ours:
                position = tile.number * WIDTH + number + 1
                self.differs(position, f"The tree folder has another {what} for it ({tile_name(tile)}).")

    def own_checkpoint(self) -> list[Held]:
        """The folder's own: it proves nothing, but has to fit."""
        content = self.guarded(self.folder.checkpoint)
        if content is None:
            return []
        try:
            return [Held("the tree folder's checkpoint", parse_checkpoint(content))]
        except InvalidInput as error:
            self.found(None, f"The tree folder's checkpoint is damaged: {error}")
            return []

    def guarded(self, read: Callable[[], bytes | Head | None]) -> Any:
        """What is read from the folder; where it is damaged that is a finding, and None."""
        try:
            return read()
        except TreeDisagrees as error:
            self.found(None, str(error))
            return None

    # ---------------------------------------------------------------------- what was kept outside

    def hold(self, checkpoints: Iterable[Held]) -> None:
        """Hold checkpoints against the log, the smallest first, so that the gap where it changed is known."""
        agreed = 0
        for name, checkpoint in sorted(checkpoints, key=lambda one: one.checkpoint.size):
            size = checkpoint.size
            if size > self.tree.size:
                self.found(
                    None,
                    f"{name} covers {size} events and the log has {self.tree.size}: events {self.tree.size + 1} to "
                    f"{size} are missing from the end of the log.",
                )
            elif self.roots[size] != checkpoint.root:
                self.found(
                    None,
                    f"{name} was signed over {size} events that are not the log's first {size}: "
                    f"{self.changed(agreed, checkpoint)}",
                )
            else:
                agreed = size

    def changed(self, agreed: int, checkpoint: Checkpoint) -> str:
        """Where the log differs from what was signed, as far as can be told."""
        first, size = agreed + 1, checkpoint.size
        where = f"event {first}" if first == size else f"something among the events {first} to {size}"
        head = self.head
        if head is not None and size <= head.size:
            root = self.guarded(lambda: root_at(size, self.folder.subtrees(head.size)))
            if root == checkpoint.root:
                return f"{where} has been changed. The tree folder still has the leaves that were signed."
        return f"{where} has been changed, or this is another log."

    def anchored(self) -> int | None:
        """Hold what was kept outside against the log; the largest size that it agrees with, if any events have it."""
        key = self.key
        if key is None:
            return None
        signed = [one for one in self.held if one.checkpoint.signed_by(key)]
        for name, _ in (one for one in self.held if one not in signed):
            self.found(None, f"{name} does not carry a valid signature of {key.name}+{key.id.hex()}.")
        self.hold(signed)
        sizes = [
            checkpoint.size
            for _, checkpoint in signed
            if 0 < checkpoint.size <= self.tree.size and self.roots[checkpoint.size] == checkpoint.root
        ]
        return max(sizes, default=None)

    def proof(self, held: HeldProof) -> None:
        """Try a proof on the leaf or the root that the log has now."""
        name, proof = held
        match proof:
            case InclusionProof(index=index):
                leaf = self.leaves[index]
                if not leaf:
                    self.found(None, f"{name} is about position {index + 1}, which the log does not have.")
                elif not proof.proves(leaf):
                    self.found(
                        index + 1, f"{name} does not prove it: the proof is of another event, or damaged."
                    )
            case ConsistencyProof(old=old):
                root = self.roots[old]
                if not root:
                    self.found(None, f"{name} begins at size {old}, which the log does not reach.")
                elif not proof.proves(root):
                    self.found(
                        None,
                        f"{name} does not prove that the tree has grown from the log's first {old} events to size "
                        f"{proof.checkpoint.size}.",
                    )
