"""Running here: start or resume a run in this process, show what its models say, print how it ended."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from evrt.app import App
from evrt.cli.boundary import INTERRUPTED
from evrt.cli.documents import divergence, wait_document, waits
from evrt.cli.following import refuse_claimed
from evrt.cli.output import harmless, note, on_terminal, out, out_json, paint, prints_aside, whisper
from evrt.cli.place import Place, require_log
from evrt.cli.text import json_or_text, pretty
from evrt.cli.waiting import hints, wait_texts
from evrt.definitions.finding import NO_CHOICES, Choices
from evrt.errors import Denied, EvrtError, InvalidInput, NotFound, Unavailable, UsageError
from evrt.history import Run, resolve_run
from evrt.log import open_log
from evrt.log.address import MEMORY_URL
from evrt.result import Result

ENDED_WELL = 0
ENDED_BADLY = 1

EXAMPLE_CHARACTERS_MAX = 60


@dataclass(slots=True)
class Session:
    """One execution of a run by a command: where, which run (once it is known), and what has been streamed."""

    place: Place
    kept: bool
    """Whether the log outlives this process."""
    run: str | None = None
    streaming: str | None = None
    """The operation whose text was streamed last."""
    text: str = ""
    """What was streamed of it."""
    left: bool = False
    """Whether workers execute the run, and it is only watched here."""

    def began(self, run: str) -> None:
        """The id goes out before anything happens, so that it is known if we die."""
        self.run = run
        note(paint(run, "dim", sys.stderr))

    def on_delta(self, run: str, operation: str, text: str) -> None:
        """Text of a model as it comes in; each operation under its name when several speak."""
        if operation != self.streaming:
            if self.streaming is not None:
                whisper("\n")
            self.streaming, self.text = operation, ""
            whisper(paint(operation, "dim", sys.stderr) + "\n")
        self.text += text
        whisper(harmless(text))

    async def follow_deltas(self, app: App, run: str) -> None:
        """Tell what models say in a run that another process executes, until cancelled."""
        with suppress(EvrtError):  # It is news: the run's end is told without it.
            async for delta in app.deltas(run):
                if delta.kind == "reset":
                    self.streaming = self.streaming and ""
                elif delta.text:
                    self.on_delta(run, delta.operation, delta.text)

    def end_streaming(self) -> None:
        if self.streaming is not None:
            note("")


def start(
    place: Place,
    name: str,
    given: object,
    *,
    conversation: str | None,
    user: str | None,
    choices: Choices = NO_CHOICES,
    as_json: bool,
) -> int:
    """Start a run and execute it until it ends or waits; returns the exit code."""
    app = place.load_app()
    session = Session(place, kept=app.url != MEMORY_URL)

    async def execute() -> Result:
        try:
            running = await app.start(name, given, conversation=conversation, user=user, **asdict(choices))
        except InvalidInput as error:
            raise with_hint(error, given) from error.__cause__
        session.began(running.run_id)
        return await running

    return drive_run(app, session, execute, as_json)


def resume(place: Place, name: str, *, by: str | None, as_json: bool) -> int:
    """Go on with a run until it ends or waits; returns the exit code."""
    app = place.load_app()
    require_log(app.url)
    session = Session(place, kept=app.url != MEMORY_URL)

    async def execute() -> Result:
        run = await resolve_run(await app.log(), name)
        await refuse_claimed(await app.log(), run)
        session.began(run)
        if by is not None and (await app.get(run)).journal.paused:
            await app.unpause(run, by=by)
        return await app.resume(run)

    return drive_run(app, session, execute, as_json)


def with_hint(error: InvalidInput, given: object) -> InvalidInput:
    """The error of an input that does not fit, with what a person may not expect of how it was read."""
    fits_not = isinstance(error.__cause__, ValidationError)
    return InvalidInput(f"{error}{_input_hint(given)}") if fits_not else error


def _input_hint(given: object) -> str:
    """What a person may not expect of the way an input is read."""
    if given is None:
        return " No input was given."
    if isinstance(given, str):
        return ""
    text = json.dumps(json.dumps(given, ensure_ascii=False), ensure_ascii=False)
    example = f": '{text}'" if len(text) < EXAMPLE_CHARACTERS_MAX else ""
    return f" What was given is JSON, and was read as such; where text is meant, write it in quotes{example}."


def read_input(given: str | None, file: str | None) -> object:
    """A run's input from the command line, a file or stdin: JSON if it is JSON, else text."""
    if given is not None and file is not None:
        raise UsageError("Give the input as an argument or with --input-file, not both.")
    if file is None and given != "-":
        return None if given is None else json_or_text(given)
    if file in (None, "-") and sys.stdin is None:
        raise UsageError("The input was to be read from stdin, which is closed.")
    try:
        raw = sys.stdin.buffer.read() if file in (None, "-") else Path(str(file)).read_bytes()
        return json_or_text(raw.decode().removesuffix("\n"))
    except FileNotFoundError:
        raise NotFound(f"There is no file {file} to read the input from.") from None
    except PermissionError:
        raise Denied(f"The input cannot be read from {file}: this user has no permission to.") from None
    except OSError as error:
        raise UsageError(f"The input cannot be read from {file}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The input is not UTF-8 text: {error.reason} at byte {error.start}.") from None


# -------------------------------------------------------------------------------------------- executing


def drive_run(app: App, session: Session, execute: Callable[[], Awaitable[Result]], as_json: bool) -> int:
    """Have a run executed or followed, and print how that ended; returns the exit code."""
    if on_terminal(sys.stderr) and app.on_delta is None:
        app.on_delta = session.on_delta
    _show_log_lines()
    try:
        with prints_aside():
            result, history = asyncio.run(_executed(app, execute))
    except (KeyboardInterrupt, SystemExit) as stop:
        session.end_streaming()
        why = (
            "Interrupted"
            if isinstance(stop, KeyboardInterrupt)
            else f"The run's code called exit({stop.code!r})"
        )
        _say_how_to_go_on(session, why, recorded=asyncio.run(_is_recorded(app, session.run)))
        # Not the code it asked for: exit(0) in a tool is no success of the run.
        return INTERRUPTED if isinstance(stop, KeyboardInterrupt) else ENDED_BADLY
    except Unavailable as error:
        if session.run is None or not asyncio.run(_is_recorded(app, session.run)):
            raise
        resume = session.place.command("runs", "resume", session.run)
        raise Unavailable(f"{error} The run goes on with: {resume}") from error
    session.end_streaming()
    return _print_ending(session, result, history, as_json)


async def _executed(app: App, execute: Callable[[], Awaitable[Result]]) -> tuple[Result, Run]:
    try:
        result = await execute()
        return result, await app.get(result.run_id)
    finally:
        await app.aclose()


async def _is_recorded(app: App, run: str | None) -> bool:
    """Whether the log holds the run: what cut it off may have come before its first event was written."""
    if run is None:
        return False
    try:
        async with aclosing(await open_log(app.url, read_only=True)) as log:
            return (await log.head(run)).leaf is not None
    except (NotFound, UsageError, Unavailable):
        # There is no file yet, a log in memory and gone, or nothing can be read.
        return False


def _say_how_to_go_on(session: Session, why: str, *, recorded: bool) -> None:
    if not recorded or session.run is None:
        note(f"{why}. No run has been recorded.")
        return
    if session.left:
        note(f"{why}. {session.run} goes on without us: workers execute it.")
        return
    note(f"{why}. What {session.run} has done is kept; it goes on with:")
    note(f"  {session.place.command('runs', 'resume', session.run)}")


def _show_log_lines() -> None:
    """What the code says with ``ctx.log`` goes to stderr, unless the app has set up its logging otherwise."""
    logger = logging.getLogger("evrt.run")
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.INFO)


# ------------------------------------------------------------------------------------------ how it ended


def _print_ending(session: Session, result: Result, history: Run, as_json: bool) -> int:
    if as_json:
        out_json(
            {
                "run": result.run_id,
                "status": result.status,
                "output": result.output,
                "failure": result.failure.model_dump() if result.failure is not None else None,
                "reason": result.reason,
                "waits": [wait_document(operation) for operation in waits(history)],
                "divergence": divergence(history),
            }
        )
    elif result.output is not None and not _seen_already(session, result.output):
        out(paint(pretty(result.output)))
    match result.status:
        case "succeeded":
            return ENDED_WELL
        case "waiting":
            return _say_what_it_waits_for(session, history)
        case "failed":
            assert result.failure is not None
            _say(f"{result.run_id} failed: {result.failure.error_type}: {result.failure.message}")
        case "timed_out":
            _say(
                f"{result.run_id} timed out after {_timeout(history)}. To allow it more, raise its timeout=."
            )
        case "step_limit":
            _say(f"{result.run_id} used up its {_turns(history)} without an answer. {_summary(result)}")
        case "cancelled":
            why = history.state.reason
            _say(f"{result.run_id} was cancelled{f': {why}' if why else ''}.")
        case _:
            _say(f"{result.run_id} is {result.status}.")
    return ENDED_BADLY


def _say_what_it_waits_for(session: Session, history: Run) -> int:
    diverged = divergence(history)
    lines = wait_texts(history) if diverged is None else [diverged]
    things = f" for {len(lines)} things" if len(lines) > 1 else ""
    _say("\n".join([f"{history.id} is waiting{things}.", *lines]))
    if not session.kept:
        note(f"Its log was in memory ({MEMORY_URL}) and is gone. Give --db FILE for a run that can go on.")
        return ENDED_BADLY
    for hint in hints(session.place, history):
        note(paint(hint, "cyan", sys.stderr))
    return ENDED_WELL if diverged is None else ENDED_BADLY


def _say(text: str) -> None:
    note(paint(text, "", sys.stderr))


def _seen_already(session: Session, output: object) -> bool:
    """Whether the output stands on the same terminal, because it has just been streamed there."""
    return on_terminal(sys.stdout) and session.streaming is not None and session.text == output


def _timeout(history: Run) -> str:
    requested = history.journal.requested
    seconds = requested.timeout_seconds if requested is not None else None
    return f"{seconds or 0:g} s"


def _turns(history: Run) -> str:
    requested = history.journal.requested
    turns = requested.model_turns_max if requested is not None else None
    return "model turns" if turns is None else f"{turns} model turns"


def _summary(result: Result) -> str:
    return "There is no summary of how far it got." if result.output is None else "Above is how far it got."
