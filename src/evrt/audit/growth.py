"""Keeping the tree beside the log: goes on from the size it has, and signs what it has come to.

The tree is never trusted more than the log, nor rebuilt over what was there: before anything is
added, the last events in it are computed again from the log and have to give its root.
"""

from __future__ import annotations

from collections.abc import Callable

from evrt.audit.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from evrt.audit.folder import CHECKPOINT, FolderWriter, Head, TreeFolder
from evrt.audit.note import SignerKey
from evrt.audit.tiles import WIDTH, GrowingTree
from evrt.audit.tree import EMPTY_ROOT, root_at
from evrt.errors import TreeDisagrees
from evrt.log.walk import Rows, open_rows, prove

COMMIT_EVENTS = WIDTH * WIDTH
"""A long log is taken up in pieces of so many events; a process that dies loses no more than one."""

Progress = Callable[[int, int], None]


def grow(
    url: str, folder: TreeFolder, *, progress: Progress | None = None, commit_events: int = COMMIT_EVENTS
) -> Head:
    """Bring the tree up to the log's last event. Blocks; ``commit_events`` is a multiple of 256.

    Raises TreeDisagrees where the folder holds another log's tree, or one this log cannot have come
    from, or where an event is not what was recorded; NotFound, Denied, Unavailable, UnusableLog, UsageError.
    """
    with (
        open_rows(url, "The tree could not be brought up to date") as rows,
        folder.writing() as writer,
    ):
        return _Growth(rows, folder, writer, progress, commit_events).run()


class _Growth:
    def __init__(
        self,
        rows: Rows,
        folder: TreeFolder,
        writer: FolderWriter,
        progress: Progress | None,
        commit_events: int,
    ) -> None:
        self.rows = rows
        self.folder = folder
        self.writer = writer
        self.progress = progress
        self.commit_events = commit_events
        self.before = folder.head()
        self.head = self.before or Head(rows.id, 0, EMPTY_ROOT)

    def run(self) -> Head:
        end = self.rows.position()
        self.check_possible(end)
        # Back to where the last tile begins: those events are read again, to be compared.
        begin = max(self.head.size - 1, 0) // WIDTH * WIDTH
        tree = GrowingTree(self.writer.write, begin, lambda tile: self.folder.hashes(tile, self.head.size))
        for proved in prove(self.rows, after=begin, upto=end):
            tree.add(proved.leaf, proved.entry)
            if tree.size == self.head.size:
                self.check_root(tree)
            elif tree.size > self.head.size and tree.size % self.commit_events == 0:
                self.writer.commit(self.rows.id, tree)
            if self.progress is not None and tree.size % WIDTH == 0:
                self.progress(tree.size - begin, end - begin)
        if self.before is not None and end == self.head.size:
            return self.head
        return self.writer.commit(self.rows.id, tree)

    def check_possible(self, end: int) -> None:
        if self.head.log != self.rows.id:
            raise TreeDisagrees(
                f"The tree folder {self.folder.path} belongs to another log: {self.head.log}. The log is "
                f"{self.rows.id}. Name another folder with --tree, or move this one away."
            )
        if self.head.size > end:
            raise TreeDisagrees(
                f"The log ends at position {end}, and its tree has {self.head.size} leaves: the events "
                f"{end + 1} to {self.head.size} are missing from the end of the log. It has been cut off, or is "
                "an old copy. Nothing has been changed."
            )

    def check_root(self, tree: GrowingTree) -> None:
        if tree.root() != self.head.root:
            raise TreeDisagrees(
                f"The log's first {tree.size} events do not give the root that its tree has at that size: log or "
                f"tree folder ({self.folder.path}) has been changed. Nothing has been overwritten; "
                "`evrt audit verify` finds the events that differ."
            )


def sign(folder: TreeFolder, key: SignerKey) -> Checkpoint:
    """Sign the tree as it is, and keep that as the folder's checkpoint.

    Raises TreeDisagrees where the checkpoint of before is not one the tree can have grown from: what
    was signed once is never contradicted.
    """
    with folder.writing() as writer:
        head = folder.head()
        assert head is not None, "A tree is signed after it was made."
        content = folder.checkpoint()
        if content is not None:
            old = parse_checkpoint(content)
            if old.size > head.size or root_at(old.size, folder.subtrees(head.size)) != old.root:
                raise TreeDisagrees(
                    f"The checkpoint in {folder.path} was signed over {old.size} leaves that are not the tree's: "
                    "to sign another now would contradict it. Move the checkpoint away only if you know why."
                )
            if (old.origin, old.size) == (key.name, head.size) and old.signed_by(key.verifier):
                # It may have gained signatures of witnesses.
                return old
        note = sign_checkpoint(key, head.size, head.root)
        writer.replace(CHECKPOINT, note.encode())
        return parse_checkpoint(note)
