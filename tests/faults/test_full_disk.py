"""A disk that is really full: appends are refused in plain words, reads go on, and room is all it takes to go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.mounts import run_on_small_disk

PRELUDE = """
import asyncio, json, os, subprocess, sys, warnings
from evrt.errors import EvrtError
from evrt.log import Append, Draft, open_log
from evrt.log.check import check
from evrt.log.ids import new_event_id
from faults.mounts import fill, make_room

folder = sys.argv[1]
path = f"{folder}/evrt.db"
url = f"sqlite:///{path}"

def a(size=10, stream="run-1"):
    return Append([Draft(stream, "note.written", new_event_id(), "run-1", b"{}", b"x" * size)], {})

async def told(awaitable):
    try:
        await awaitable
    except EvrtError as error:
        return [type(error).__name__, str(error)]
    return None
"""

SAME_PROCESS = """
async def main():
    log = await open_log(url)
    for _ in range(5):
        await log.append(a())
    following = log.subscribe(4)
    fill(folder)
    refused = await asyncio.gather(*(told(log.append(a(500_000))) for _ in range(3)))
    # Emptying the WAL makes a little room, which is used up before smaller ones are refused.
    recorded = 5
    while (answer := await told(log.append(a(3_000)))) is None:
        recorded += 1
        fill(folder)
    refused.append(answer)
    read = [len(await log.read()), (await log.head("run-1")).version, await log.position()]
    followed = (await anext(following)).position
    other = await open_log(url, read_only=True)
    read.append(len(await other.read()))
    await other.aclose()
    found = list(check(url).findings)
    make_room(folder)
    await asyncio.sleep(0.3)  # Longer than the pause between two recoveries.
    last = await told(log.append(a(500_000)))
    position = await log.position()
    await log.aclose()
    found += check(url).findings
    print(json.dumps([path, refused, recorded, read, followed, last, position, found]))

asyncio.run(main())
"""


def test_a_full_disk_refuses_what_has_no_room_until_there_is_some_and_is_read_from(tmp_path: Path) -> None:
    path, refused, recorded, read, followed, last, position, found = run_on_small_disk(
        tmp_path, PRELUDE + SAME_PROCESS
    )
    for kind, text in refused:
        assert kind == "Unavailable"
        assert text.startswith("Nothing was recorded. ")
        assert path in text
        assert "the disk is full" in text
        assert "Make room on the disk" in text
        assert "nothing has to be restarted" in text
    assert read == [recorded] * 4
    assert followed == 5
    assert (last, position) == (None, recorded + 1)
    assert found == []


READING = """
HOW = sys.argv[2].split(", ")

async def write():
    log = await open_log(url)
    for _ in range(5):
        await log.append(a())
    if "killed" in HOW:
        os._exit(0)
    await log.aclose()

async def use():
    log = await open_log(url, read_only=True)
    rows = len(await log.read()), (await anext(log.subscribe(4))).position
    await log.aclose()
    return rows, await told(append())

async def append():
    log = await open_log(url)
    try:
        await log.append(a(500_000))
    finally:
        await log.aclose()

child = os.fork()
if child == 0:
    asyncio.run(write())
    os._exit(0)
os.waitpid(child, 0)
if "without index" in HOW:
    os.unlink(path + "-shm")
if "full" in HOW:
    fill(folder)
else:
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
try:
    found = list(check(url).findings)
    print(json.dumps([asyncio.run(use()), found]))
except EvrtError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.mark.parametrize(
    "how",
    ["full, closed", "full, killed", "full, killed, without index", "read-only, closed", "read-only, killed"],
)
def test_a_log_on_a_disk_that_takes_no_files_is_read_and_checked(tmp_path: Path, how: str) -> None:
    (rows, (kind, text)), found = run_on_small_disk(tmp_path, PRELUDE + READING, how)
    assert rows == [5, 5]
    assert found == []
    if "full" in how:
        assert kind == "Unavailable"
        assert "disk is full" in text or "there is no room for" in text
    else:
        assert kind == "Denied"
        assert "for reading only" in text


def test_what_cannot_be_read_where_it_is_is_said(tmp_path: Path) -> None:
    """Its last events are in a WAL without an index, and there is nowhere to make one."""
    kind, text = run_on_small_disk(tmp_path, PRELUDE + READING, "read-only, killed, without index")
    assert kind == "Unavailable"
    assert "the last events are still in" in text
    assert "Copy the two files to a folder that can be written" in text


CLI = """
HOW = sys.argv[2]
APP = '''
import evrt

app = evrt.App("sqlite:///{path}")


@app.workflow
async def greet(ctx, name):
    return await ctx.step("greet", lambda name: f"Hello {{name}}", name)
'''
elsewhere = os.environ["ELSEWHERE"]
with open(f"{elsewhere}/greeting.py", "w") as file:
    file.write(APP.format(path=path))

def evrt(*words):
    done = subprocess.run(
        [sys.executable, "-m", "evrt", *words],
        capture_output=True, text=True, cwd=elsewhere, env={**os.environ, "EVRT_APP": "greeting", "EVRT_DB": url},
    )
    return [done.returncode, done.stdout, done.stderr]

if HOW == "views are behind":
    evrt("runs", "start", "greet", "Eve")
    evrt("runs", "list")
begun = evrt("runs", "start", "greet", "Ann", "--json")
run = json.loads(begun[1])["run"]
fill(folder)
with open(f"{elsewhere}/name", "w") as file:
    file.write("x" * 200_000)
started = evrt("runs", "start", "greet", "--input-file", "name")
reading = [evrt("runs", "list"), evrt("log", run), evrt("db", "check")]
make_room(folder)
print(json.dumps([begun, run, started, reading, evrt("runs", "start", "greet", "Bob")]))
"""


@pytest.mark.parametrize("how", ["there are no views", "views are behind"])
def test_the_command_line_says_that_the_disk_is_full_and_goes_on_reading(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("ELSEWHERE", str(tmp_path_factory.mktemp("elsewhere")))
    begun, run, started, reading, again = run_on_small_disk(tmp_path, PRELUDE + CLI, how)
    assert begun[0] == 0
    code, out, said = started
    assert (code, out) == (6, "")
    *announced, paragraph = said.splitlines()
    assert len(announced) <= 1  # The id of the run, if the log could be opened at all.
    assert "the disk is full" in paragraph or "there is no room for" in paragraph
    assert "Make room on the disk" in paragraph
    assert "goes on with" not in paragraph
    assert "Traceback" not in said
    for (code, out, said), shown in zip(reading, (run, "run.succeeded", ""), strict=True):
        assert (code, shown in out) == (0, True), said
    assert "is built for this command alone" in reading[0][2]
    assert again[0] == 0
