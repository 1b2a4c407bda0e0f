"""What the demo is asked to show. Everything given is checked before anything is created or done."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from evrt.demo.app import AT_ONCE, ONE_BY_ONE, SCRIPTED
from evrt.demo.claims import SAMPLE_PATH, Claim, read_claims
from evrt.demo.worker import Job
from evrt.errors import Denied, InvalidInput, Unavailable, UsageError
from evrt.log import PAYLOAD_BYTES_MAX
from evrt.log.address import parse_url

LOG_FILE = "log.db"
INPUT_BYTES_MAX = PAYLOAD_BYTES_MAX - 64 * 1024
"""All claims are one run's input, which the log keeps as one event; something is left for the rest of it."""

WAITS_SECONDS = 2.0
"""What the scripted model and the ledger take for all their answers together: time enough to watch."""

LATENCY_SECONDS_MAX = 0.25
WAITS_PER_REVIEW = 4
"""Three replies of the model and one confirmation."""


@dataclass(frozen=True, slots=True)
class Plan:
    """These claims, decided by this model, in a new folder, killed after so many decisions."""

    claims: list[Claim]
    source: Path
    folder: Path
    kill_after: int
    model: str = SCRIPTED
    api_base: str | None = None

    @property
    def scripted(self) -> bool:
        return self.model == SCRIPTED

    @property
    def url(self) -> str:
        return url_in(self.folder)

    @property
    def latency_seconds(self) -> float:
        """So long that the whole takes a moment, however many claims there are."""
        groups = -(-max(0, len(self.claims) - ONE_BY_ONE) // AT_ONCE)
        reviews_in_a_row = min(len(self.claims), ONE_BY_ONE) + groups
        return min(LATENCY_SECONDS_MAX, WAITS_SECONDS / (reviews_in_a_row * WAITS_PER_REVIEW))

    def job(self, folder: Path, *, resume: str | None = None, latency_seconds: float) -> Job:
        """What a worker is to do in a folder: begin with the claims, or go on with a run."""
        return Job(
            url=url_in(folder),
            resume=resume,
            claims=[] if resume is not None else self.claims,
            model=self.model,
            api_base=self.api_base,
            latency_seconds=latency_seconds,
        )


def url_in(folder: Path) -> str:
    """The log of a folder."""
    return f"sqlite:///{folder / LOG_FILE}"


def make_plan(
    *,
    claims: Path | None = None,
    parent: Path,
    model: str | None = None,
    api_base: str | None = None,
    kill_after: int | None = None,
) -> Plan:
    """Check what was given, then make a new folder below ``parent``. Raises EvrtError that says what to mend."""
    source = claims or SAMPLE_PATH
    found = read_claims(source)
    _check_size(found, source)
    after = _kill_after(len(found), kill_after)
    _check_model(model, api_base)
    parse_url(url_in(parent / "1"))
    return Plan(found, source, _new_folder(parent), after, model or SCRIPTED, api_base)


def _check_size(claims: list[Claim], source: Path) -> None:
    given = [claim.model_dump(mode="json") for claim in claims]
    size = len(json.dumps(given, ensure_ascii=False).encode())
    if size > INPUT_BYTES_MAX:
        fit = len(claims) * INPUT_BYTES_MAX // size
        raise InvalidInput(
            f"{source} holds {len(claims):,} claims, more than one run can take as its input ({INPUT_BYTES_MAX:,} "
            f"bytes): about {fit:,} of them fit. Split the file, and give the parts one after the other."
        )


def _kill_after(count: int, asked: int | None) -> int:
    if asked is None:
        # Somewhere in the middle half; of one or two claims, in the last.
        return min(random.randint(-(-count // 4), max(-(-count // 4), count * 3 // 4)), count - 1)
    if not 0 <= asked < count:
        raise UsageError(
            f"--kill-after {asked}: with {count:,} claims the kill can come after 0 to {count - 1:,} decisions."
        )
    return asked


def _check_model(model: str | None, api_base: str | None) -> None:
    if model in (None, SCRIPTED):
        if api_base is not None:
            raise UsageError(
                "--api-base is the address of a real model's server: name the model too, as in --model openai/NAME."
            )
        return
    from evrt.effects.models import LiteLLM, explain_model

    LiteLLM(api_base)
    assert model is not None
    if explained := explain_model(model, api_base):
        raise UsageError(explained)


def _new_folder(parent: Path) -> Path:
    """The next number below ``parent``: what earlier demos left stays as it is."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            numbers = [int(path.name) for path in parent.iterdir() if path.name.isdecimal()]
            folder = parent / str(max(numbers, default=0) + 1)
            try:
                folder.mkdir()
            except FileExistsError:
                continue  # Another demo was faster.
            return folder
    except PermissionError as error:
        raise Denied(
            f"{parent} cannot be used: no permission to write there. Name another folder with --dir."
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"{parent} is not a folder, or lies below a file. Name another folder with --dir."
        ) from error
    except OSError as error:
        raise Unavailable(
            f"{parent} cannot be used: {error.strerror}. Name another folder with --dir."
        ) from error
