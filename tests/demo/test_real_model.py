"""With a real model, called over HTTP, the demo claims only what it can: nothing is compared with chance."""

from __future__ import annotations

from pathlib import Path

from demo.reviewing_server import reviewing_server
from demo.stories import Told, claims_file, typed


def demo_with(url: str, cwd: Path, *words: str) -> Told:
    claims = claims_file(cwd, 3)
    model = ("--model", "openai/reviewer-1", "--api-base", url)
    return typed(cwd, "demo", "--claims", claims, "--kill-after", "1", *model, *words)


def test_a_model_that_agrees_with_the_policy_makes_everything_hold(tmp_path: Path) -> None:
    with reviewing_server() as server:
        told = demo_with(server.url, tmp_path, "--json")
    assert told.code == 0, told.out + told.err
    assert told.report["model"] == "openai/reviewer-1"
    assert told.checks == {
        "killed": True,
        "resumed": True,
        "replayed": True,
        "policy": True,
        "once": True,
        "same": None,
    }
    assert "a real model does not say the same twice" in told.text_of("same")
    assert {request["model"] for request in server.requests} == {"reviewer-1"}
    # The server is gone. What the model said is in the log, and so is which model it was.
    replayed = typed(tmp_path, command=told.report["commands"][2])
    assert replayed.code == 0, replayed.err


def test_a_model_that_disagrees_with_the_policy_is_told_from_a_run_that_went_wrong(tmp_path: Path) -> None:
    with reviewing_server(
        lambda reply: reply.replace("within_policy", "too_old").replace("approve", "reject")
    ) as server:
        told = demo_with(server.url, tmp_path)
    assert told.code == 1
    assert "✗ the model openai/reviewer-1 disagrees with the policy about 3 of 3 claims" in told.flat
    assert (
        "C-001: the policy says approve, 48.50 EUR, within_policy; found is reject, 48.50 EUR, too_old."
        in told.flat
    )
    assert "✓ ledger and tray hold each decision once" in told.flat
    assert "This did not hold: policy." in told.flat


def test_a_model_that_refuses_to_be_called_is_explained(tmp_path: Path) -> None:
    with reviewing_server(status=401) as server:
        told = demo_with(server.url, tmp_path)
    assert told.code == 1
    assert "the run did not come as far as the kill: it failed: ModelFailed" in told.flat
    assert "were not accepted (HTTP 401): Incorrect API key provided." in told.flat
    assert "# its last moment:" in told.out
    assert "This did not hold: killed." in told.flat
