"""Making proofs out of the tree folder, each tried before it is handed out."""

from __future__ import annotations

from evrt.audit.checkpoint import Checkpoint
from evrt.audit.folder import Head, TreeFolder
from evrt.audit.proof import ConsistencyProof, InclusionProof
from evrt.audit.tree import consistency_proof, inclusion_proof, root_at
from evrt.errors import Conflict, NotFound, TreeDisagrees
from evrt.log.walk import open_rows, prove


def prove_inclusion(url: str, folder: TreeFolder, position: int, checkpoint: Checkpoint) -> InclusionProof:
    """That the checkpoint's tree has the event at this position of the log.

    Raises NotFound where log or checkpoint do not reach so far, TreeDisagrees.
    """
    with open_rows(url, "The event could not be read") as rows:
        end = rows.position()
        if not 1 <= position <= end:
            raise NotFound(f"The log has positions 1 to {end}; there is no position {position}.")
        [proved] = prove(rows, after=position - 1, upto=position)
    head = _head_for(folder, checkpoint)
    if position > checkpoint.size:
        raise NotFound(
            f"The checkpoint covers positions 1 to {checkpoint.size}, not yet {position}. "
            "`evrt audit head --key FILE` signs one that does."
        )
    index = position - 1
    path = inclusion_proof(index, checkpoint.size, folder.subtrees(head.size))
    proof = InclusionProof(index, path, checkpoint)
    if not proof.proves(proved.leaf):
        raise TreeDisagrees(
            f"The log's event at position {position} is not the one in its tree, which the checkpoint was signed "
            "over: it has been changed since."
        )
    return proof


def prove_consistency(folder: TreeFolder, old: Checkpoint, new: Checkpoint) -> ConsistencyProof:
    """That the tree of the new checkpoint has grown from that of the old. Raises Conflict, TreeDisagrees."""
    head = _head_for(folder, new)
    if old.size > new.size:
        raise Conflict(
            f"The earlier checkpoint has size {old.size}, the later one {new.size}: either they are the wrong way "
            "round, or events have been cut off the log."
        )
    path = consistency_proof(old.size, new.size, folder.subtrees(head.size))
    proof = ConsistencyProof(old.size, path, new)
    if not proof.proves(old.root):
        raise TreeDisagrees(
            f"The tree has not grown from that of the earlier checkpoint: its first {old.size} leaves have another "
            "root. There is no proof to give."
        )
    return proof


def _head_for(folder: TreeFolder, checkpoint: Checkpoint) -> Head:
    """The folder's head, once it is clear that the checkpoint is of this tree."""
    head = folder.head()
    if head is None or checkpoint.size > head.size:
        has = "no tree" if head is None else f"a tree of {head.size} leaves"
        raise NotFound(
            f"{folder.path} has {has}, and the checkpoint is of size {checkpoint.size}. `evrt audit head` brings "
            "the tree up to date."
        )
    if root_at(checkpoint.size, folder.subtrees(head.size)) != checkpoint.root:
        raise TreeDisagrees(
            f"The checkpoint of size {checkpoint.size} was not signed over this tree, which has another root at that "
            "size."
        )
    return head
