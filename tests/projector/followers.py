"""A reader that keeps to the protocol, and what its frames are judged by: the fold as of every version it was sent."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, NamedTuple

import jsonpatch
import orjson

from evrt.log import Log
from evrt.log.envelopes import envelopes
from evrt.projection import Projection, evolved, place_of
from evrt.projector import patch
from evrt.projector.frames import Cursor, Frame, Parked, Patch, Snapshot


class Received(NamedTuple):
    """The document that a reader had after a frame, and as of when it was told that this is."""

    version: int
    generation: int
    document: Any


class Follower:
    """Has what arrived, as a client has it: by the text of the frames alone."""

    def __init__(self) -> None:
        self.version = 0
        self.cursor: str | None = None
        self.document: Any = None
        self.received: list[Received] = []
        self.frames: list[Frame] = []
        self.parked: dict[str, Any] = {"position": None, "error": None}

    def take(self, frame: Frame) -> None:
        """Take one frame in. Fails where it breaks the protocol."""
        self.frames.append(frame)
        fields = dict(line.split(": ", 1) for line in frame.sse.decode().removesuffix("\n\n").split("\n"))
        body = json.loads(fields["data"])
        if isinstance(frame, Parked):
            assert fields["event"] == "parked"
            assert "id" not in fields
            self.parked = body
            return
        assert fields["id"] == frame.cursor
        if isinstance(frame, Snapshot):
            assert fields["event"] == "snapshot"
            assert body["version"] >= self.version, "A version went back."
            assert orjson.dumps(body["state"]) == orjson.dumps(frame.document)
            self.document = body["state"]
        else:
            assert isinstance(frame, Patch)
            assert fields["event"] == "patch"
            assert body["prev"] == self.version, "The patch is for another version."
            assert body["version"] > self.version, "A version went back."
            outsider = jsonpatch.apply_patch(self.document, body["ops"])
            self.document = patch.apply(self.document, frame.operations)
            assert orjson.dumps(outsider, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
                self.document, option=orjson.OPT_SORT_KEYS
            )
        self.version, self.cursor = body["version"], fields["id"]
        generation = Cursor.parse(fields["id"]).generation
        assert generation is not None
        self.received.append(Received(self.version, generation, self.document))


class Fold:
    """One document at every version, by folding the whole log in this process."""

    def __init__(self, positions: list[int], documents: list[Any]) -> None:
        self._positions = positions
        self._documents = documents

    @classmethod
    async def of(cls, log: Log, projection: Projection[Any], key: str, part: str = "") -> Fold:
        """The document of this place."""
        positions, documents, now = [0], [None], None
        for envelope in envelopes(await log.read(limit=10**9)):
            if place_of(projection, envelope) == (key, part):
                now = evolved(projection, now, (key, part), envelope)
                positions.append(envelope.position)
                documents.append(None if now is None else now.value.model_dump(mode="json"))
        return cls(positions, documents)

    def at(self, version: int) -> Any:
        """The document after the event at this position."""
        return self._documents[bisect_right(self._positions, version) - 1]

    def judge(self, received: Iterable[Received]) -> None:
        """Every document that arrived is the one that the view really had then."""
        for version, _, document in received:
            expected = self.at(version)
            assert orjson.dumps(document, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
                expected, option=orjson.OPT_SORT_KEYS
            ), f"As of {version} it was {expected}, and what arrived makes {document}."
