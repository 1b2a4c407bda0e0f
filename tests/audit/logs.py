"""Logs to audit: made through the log itself, a few events or many, or by a run of a workflow."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import evrt
from evrt.audit.checkpoint import Checkpoint, parse_checkpoint
from evrt.audit.folder import Head, TreeFolder, tree_folder
from evrt.audit.growth import COMMIT_EVENTS, grow, sign
from evrt.audit.note import SignerKey
from evrt.audit.verifying import Held, HeldProof, Verdict, verify
from evrt.log import REQUEST_EVENTS_MAX, open_log
from evrt.log.walk import open_rows, prove
from log.stores import append, draft

KEY = SignerKey("audit.example/log-1", bytes(range(32)))
OTHER_KEY = SignerKey("audit.example/log-1", bytes(range(1, 33)))
STREAMS = 7


@dataclass(frozen=True, slots=True)
class Place:
    """A log's file and the folder of its tree."""

    path: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def folder(self) -> TreeFolder:
        return TreeFolder(tree_folder(str(self.path)))

    @property
    def tree(self) -> Path:
        return self.folder.path

    def fill(self, events: int) -> None:
        """Append so many events, spread over some streams."""
        asyncio.run(self._fill(events))

    async def _fill(self, events: int) -> None:
        async with aclosing(await open_log(self.url)) as log:
            for first in range(0, events, REQUEST_EVENTS_MAX):
                drafts = [
                    draft(f"run-{number % STREAMS}", str(number).encode())
                    for number in range(first, min(events, first + REQUEST_EVENTS_MAX))
                ]
                await log.append(append(*drafts))

    def grow(self, commit_events: int = COMMIT_EVENTS) -> Head:
        return grow(self.url, self.folder, commit_events=commit_events)

    def verify(self, *checkpoints: str, proofs: tuple[HeldProof, ...] = (), key: SignerKey = KEY) -> Verdict:
        """What evrt says to this log, given checkpoints that were kept elsewhere."""
        held = [
            Held(f"checkpoint {n}", parse_checkpoint(text)) for n, text in enumerate(checkpoints, start=1)
        ]
        outside = key.verifier if checkpoints or proofs else None
        return verify(self.url, self.folder, key=outside, checkpoints=held, proofs=proofs)

    def entries(self) -> list[bytes]:
        """The entries of the log, built from its rows."""
        with open_rows(self.url, "Test") as rows:
            return [proved.entry for proved in prove(rows, after=0, upto=rows.position())]

    def copy(self, to: Path) -> Place:
        """A copy of log and tree, to be spoilt."""
        to.mkdir()
        for file in self.path.parent.glob(f"{self.path.name}*"):
            if file.is_dir():
                shutil.copytree(file, to / file.name)
            else:
                shutil.copy(file, to / file.name)
        return Place(to / self.path.name)


def sign_head(place: Place, key: SignerKey = KEY) -> Checkpoint:
    """Bring the tree up to date and sign it."""
    place.grow()
    return sign(place.folder, key)


async def run_a_workflow(url: str) -> str:
    """A log as agents make it: a run with tools, memory, a person's data that is erased. Returns the run."""
    app = evrt.App(url)

    @evrt.tool(effect="read")
    def greeting(name: str) -> str:
        return f"Grüße, {name}!"

    @app.workflow
    async def greet(ctx: evrt.Context[None], names: list[str]) -> list[str]:
        await ctx.memory.set("names", names)
        return list(await ctx.gather(*(ctx.call(greeting, name=name) for name in names)))

    async with app:
        running = await app.start(greet, ["Zoë", "José", "日本"], user="u-1", conversation="c-1")
        await running
        await (await app.log()).erase_payload(3)
        return running.run_id
