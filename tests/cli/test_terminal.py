"""On a terminal there are colours, short times, and what models say while they say it; in a pipe there is none of it."""

from __future__ import annotations

from cli.shell import COLUMNS, Finished, Shell, on_terminal, plain

History = tuple[Shell, Finished]


def test_colours_and_short_times_are_for_terminals_only(history: History) -> None:
    shell, waiting = history
    shown = on_terminal(shell, "runs", "list")
    assert "\x1b[33mwaiting" in shown
    assert "ago" in plain(shown) or "just now" in plain(shown)
    assert all(len(line) <= COLUMNS for line in plain(shown).splitlines())
    piped = shell.evrt("runs", "list").out
    assert "\x1b" not in piped
    assert "Z " in piped
    log = on_terminal(shell, "log", waiting.run)
    assert "\x1b[" in log
    assert "…" in log
    assert all(len(line) <= COLUMNS for line in plain(log).splitlines())
    assert "\x1b" not in shell.evrt("log", waiting.run).out


def test_no_color_is_honoured(history: History) -> None:
    shell, waiting = history
    shown = on_terminal(shell, "runs", "show", waiting.run, NO_COLOR="1")
    assert "\x1b" not in shown
    assert f"{waiting.run}  waiting" in shown


def test_what_a_model_says_is_streamed_and_not_printed_twice(shell: Shell) -> None:
    shown = plain(on_terminal(shell, "runs", "start", "helper", "Weather?"))
    assert shown.count("There is no umbrella.") == 1
    assert shown.startswith("run-")
    assert shown.splitlines()[1] == "model#2"


def test_text_from_outside_cannot_steer_the_terminal(shell: Shell) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b1m\u202e\u2066\u200f"
    shown = on_terminal(
        shell,
        "runs",
        "start",
        "parrot",
        f'"{evil.encode("unicode_escape").decode()}"'.replace("\\x", "\\u00"),
    )
    assert "owned" in shown
    shell.evrt("runs", "start", "parrot", evil, "--conversation", "c1")
    shown += on_terminal(shell, "conversations", "show", "c1")
    shell.write("evil.md", f"Say {evil[-3:]}\n")
    shell.evrt("agents", "define", "evil", "--set", f"instructions=Say {evil[-3:]}", "--by", evil[-3:])
    shell.evrt("agents", "spec", "evil", "--set", "evil.md")
    shown += on_terminal(shell, "agents", "show", "evil") + on_terminal(shell, "agents", "spec", "evil")
    shown += on_terminal(shell, "runs", "list") + on_terminal(shell, "log")
    for sequence in ("\x1b]", "\x07", "\x1b[2J", "\x9b", "\u202e", "\u2066", "\u200f"):
        assert sequence not in shown
    assert (
        evil
        in shell.evrt(
            "runs", "start", "parrot", '"\\u001b]0;owned\\u0007\\u001b[2J\\u009b1m\\u202e\\u2066\\u200f"'
        ).out
    )
