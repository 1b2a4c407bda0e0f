"""An app whose runs take as long as a test wants, and the means to watch the workers that execute them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cli.shell import Shell

WORKS = '''
import asyncio
import os
import subprocess
import time

import evrt

app = evrt.App()


async def mark(text: str) -> str:
    with open("marks.txt", "a") as file:
        file.write(f"{text}\\\\n")
    return text


async def until_there(name: str) -> str:
    while not os.path.exists(name):
        await asyncio.sleep(0.01)
    return await mark(f"{name} came")


@app.workflow
async def quick(ctx: evrt.Context, text: str) -> str:
    return text.upper()


@app.workflow
async def long(ctx: evrt.Context) -> list:
    """Several steps, one of which lasts until there is a file."""
    return [await ctx.step("first", mark, "begun"), await ctx.step("wait", until_there, "go"), await ctx.step("last", mark, "done")]


@app.workflow
async def stubborn(ctx: evrt.Context) -> None:
    """Executes in a thread, which nobody can cancel."""
    await ctx.step("sleep", time.sleep, 600, effect="read")


@app.workflow
async def talks(ctx: evrt.Context) -> str:
    """Starts a program that says what looks like JSON, and reads all it is given."""
    return str(await ctx.step("program", subprocess.call, ["sh", "-c", "echo '[]'; cat; echo heard"]))


@app.workflow
async def asks(ctx: evrt.Context) -> str:
    return await ctx.ask("May I?", options=["yes", "no"], allow_free_form=False)


@app.workflow
async def parent(ctx: evrt.Context) -> str:
    return await ctx.child(quick, "child")


@app.workflow(retry=evrt.Retry(1))
async def fails(ctx: evrt.Context) -> None:
    raise KeyError("no such thing")
'''.replace("\\\\", "\\")


class Watched:
    """A worker that tells in JSON lines what becomes of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def next(self, event: str) -> Any:
        """What it tells of the next such event; what it tells before is passed over."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            if told["event"] == event:
                return told
        raise AssertionError(f"The worker ended with {self.process.wait()} and told of no {event!r}.")

    def ended(self, code: int) -> Any:
        """What it tells last."""
        told = self.next("ended")
        assert self.process.wait() == code
        return told


@contextmanager
def worker(shell: Shell, *options: str) -> Iterator[Watched]:
    """A worker in a process of its own, gone when the block ends."""
    with shell.begin("worker", "--json", *options, stderr=subprocess.PIPE) as process:
        try:
            yield Watched(process)
        finally:
            process.kill()


@contextmanager
def followed(shell: Shell, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A run that was left to workers, and is followed."""
    words = ("runs", "start", *words, "--detach", "--follow", "--json")
    with shell.begin(*words, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def next_event(shell: Shell, type: str, run: str) -> Any:
    """The first event of this type of a run, as soon as there is one."""
    # Asked again and again: a command that follows would be an interpreter more, and has tests of its own.
    while not (out := shell.evrt("log", run, "--type", type, "--json").out):
        time.sleep(0.02)
    return json.loads(out.partition("\n")[0])


def ending_of(process: subprocess.Popen[str]) -> Any:
    """What a run that is followed came to."""
    out, err = process.communicate()
    assert "Traceback" not in err, err
    return json.loads(out)


def marks(shell: Shell) -> list[str]:
    """What the steps have written, each a line."""
    return (shell.folder / "marks.txt").read_text("utf-8").split("\n")[:-1]
