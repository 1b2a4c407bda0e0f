"""A folder with a small app in it, and the command line used there the way a person would: in real processes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.forker import Forker

APP = '''
import asyncio
import os

import evrt
from evrt.testing import ScriptedModel, call


@evrt.tool(effect="read")
async def weather(city: str) -> str:
    """The weather in a city."""
    return f"18 °C in {city}"


@evrt.tool
async def pay(cents: int) -> str:
    """Pay somebody; nobody can tell afterwards whether it was done."""
    with open("payments.txt", "a") as file:
        file.write(f"{cents}\\n")
    if os.environ.get("DIE_WHILE_PAYING"):
        os._exit(9)
    return f"paid {cents}"


def talk(request):
    if request.messages[-1]["role"] == "user":
        return [call("weather", city="Turin"), call("umbrella", size=3)]
    return "18 °C in Turin.\\nThere is no umbrella."


def wander(request):
    last = request.messages[-1]
    summary = last["role"] == "user" and len(request.messages) > 1
    return "I only got to Turin." if summary else call("weather", city="Turin")


async def sleep(request):
    await asyncio.sleep(60)
    return "too late"


app = evrt.App(
    models={
        "talker": ScriptedModel(talk),
        "wanderer": ScriptedModel(wander),
        "sleeper": ScriptedModel(sleep),
        "parrot": ScriptedModel(lambda request: request.messages[-1]["content"]),
    }
)
helper = app.agent("helper", model="talker", tools=[weather])
app.agent("wanderer", model="wanderer", tools=[weather], model_turns_max=2)
app.agent("sleeper", model="sleeper")
app.agent("hasty", model="sleeper", timeout=0.05)
app.agent("parrot", model="parrot")
app.agent("lost", model="nowhere/at-all")


@app.workflow
async def report(ctx: evrt.Context, topic: str) -> dict:
    """Everything at once."""
    ctx.log(f"About {topic}.")
    plan = await ctx.step("plan", str.upper, topic)
    facts = await ctx.gather(*(ctx.call(weather, city=city) for city in ("Turin", "Rome")))
    await ctx.memory.set("topic", topic, scope="user")
    await ctx.checkpoint({"plan": plan}, name="planned")
    said = await ctx.call(helper, topic)
    sure = await ctx.ask(f"Publish {plan}?", options=["yes", "no"], allow_free_form=False)
    await ctx.memory.forget("topic", scope="user")
    return {"facts": facts, "said": said, "sure": sure}


@app.workflow
async def payment(ctx: evrt.Context, cents: int) -> str:
    return await ctx.call(pay, cents=cents)


@app.workflow
async def two_questions(ctx: evrt.Context) -> list:
    return await ctx.gather(ctx.ask("Your name?"), ctx.ask("Your age?"))


@app.workflow
async def ship(ctx: evrt.Context, order: int) -> list:
    approval = await ctx.approve(f"Ship order {order}", {"order": order}, timeout="30d")
    if not approval:
        return ["kept", approval.reason, approval.by]
    return ["shipped", await ctx.wait_for_signal("arrived", timeout="30d")]


@evrt.tool(effect="read")
async def harbour() -> str:
    """Whether ships go, which they do not in a storm."""
    if os.path.exists("storm"):
        raise ConnectionError("there is a storm")
    return "ships go"


@app.workflow(retry=evrt.Retry(3, base_seconds=60))
async def voyage(ctx: evrt.Context) -> str:
    return await ctx.call(harbour)


@app.workflow
async def broken(ctx: evrt.Context) -> None:
    raise KeyError("no such thing")
'''

INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from evrt.cli import main
main()
"""
"""SIGINT reaches it also where the tests run in the background of a shell, which has it ignored."""

NOBODY = 65534
"""A user who may do next to nothing."""

LINES, COLUMNS = 40, 110
"""Of a terminal."""

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)

    @property
    def run(self) -> str:
        """The id of the run that it began with on stderr."""
        return self.err.partition("\n")[0]

    @property
    def commands(self) -> list[str]:
        """The commands that it suggests, without the words behind them."""
        lines = self.err.splitlines()
        return [line.partition("  #")[0].strip() for line in lines if line.startswith("  evrt ")]


@dataclass(frozen=True, slots=True)
class Shell:
    """A folder and an environment to run ``evrt`` in."""

    folder: Path
    streams: Path
    """Where stdin, stdout and stderr of commands are kept."""
    forker: Forker
    environment: dict[str, str] = field(default_factory=dict)
    user: int | None = None
    """Whom to run commands as, where the tests' own user may do anything."""

    def evrt(self, *words: str, stdin: str | bytes = "", expect: int = 0, **environment: str) -> Finished:
        """Run a command to its end, and see that it ends with this exit code and never with a traceback."""
        streams = [self.streams / name for name in ("stdin", "stdout", "stderr")]
        streams[0].write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
        variables = self.environment_with(**environment)
        code = self.forker.run(list(words), self.folder, variables, streams, self.user)
        result = Finished(code, streams[1].read_text("utf-8"), streams[2].read_text("utf-8"))
        assert result.code == expect, f"evrt {shlex.join(words)}: {result}"
        # Warnings: among them those of logs that were not closed.
        assert not re.search("Traceback|Warning", result.err), result.err
        return result

    def refused(self, *words: str, code: int, stdin: str | bytes = "", **environment: str) -> str:
        """Run a command that has to be refused with nothing on stdout and one paragraph on stderr, returned."""
        result = self.evrt(*words, expect=code, stdin=stdin, **environment)
        assert result.out == ""
        assert len(result.err.splitlines()) == 1, result.err
        return result.err.strip()

    def typed(self, command: str, **environment: str) -> Finished:
        """Run a command as it was suggested."""
        program, *words = shlex.split(command)
        assert program == "evrt"
        return self.evrt(*words, expect=0, **environment)

    def begin(self, *words: str, stderr: int | None = None) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, *words],
            cwd=self.folder,
            env=self.environment_with(),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path

    def environment_with(self, **more: str) -> dict[str, str]:
        """The environment of a command: nothing of evrt's own but what the shell and ``more`` say."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EVRT_")}
        clean = {"TZ": "UTC", "PYTHONWARNINGS": "default", "NO_COLOR": "", "TERM": "xterm-256color"}
        return inherited | clean | self.environment | more


def new_shell(parent: Path, forker: Forker) -> Shell:
    """A shell in a folder with nothing but the app in it."""
    folder, streams = parent / "folder", parent / "streams"
    folder.mkdir()
    streams.mkdir()
    shell = Shell(folder, streams, forker, {"EVRT_APP": "support"})
    shell.write("support.py", APP)
    return shell


def plain(text: str) -> str:
    """What a terminal shows, without its colours."""
    return COLOUR.sub("", text).replace("\r\n", "\n")


def on_terminal(shell: Shell, *words: str, **environment: str) -> str:
    """What a command writes to a terminal that is its stdout and stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {"COLUMNS": "", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "evrt", *words],
        cwd=shell.folder,
        env=shell.environment_with(**environment),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # How Linux says that nobody holds the other end any more.
        pass
    finally:
        os.close(ours)
        assert process.wait() == 0
    return written.decode()
