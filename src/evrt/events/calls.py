"""What a run does to or learns from the world: intents, attempts, outcomes.

``operation`` is an operation's identity: the path of scopes, a name, and an ordinal per
scope and name, e.g. ``gather#1:0/search#2``. An intent comes before its effect and is durable
before the effect starts; exactly one outcome closes it. Failed attempts in between are events
with ``final=False``. ``retriable=False`` says of a failure that trying again cannot mend it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from evrt.events.base import Event, JsonObject, JsonValue, register
from evrt.events.run import Failure

EffectKind = Literal["pure", "read", "write"]
VOLATILE_OUTCOME = frozenset({"attempt", "latency_ms", "delay_ms", "final", "retriable"})


class Usage(BaseModel):
    """Tokens of one model call, and its cost in US dollars where the provider's prices are known."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


@register
class StepStarted(Event):
    """Intent of a step that reads from the world; pure steps have none."""

    type: ClassVar[str] = "step.started"

    operation: str
    digest: str


@register
class StepCompleted(Event):
    """A step's function returned. ``digest`` is that of its arguments."""

    type: ClassVar[str] = "step.completed"
    volatile: ClassVar[frozenset[str]] = VOLATILE_OUTCOME

    operation: str
    digest: str
    result: JsonValue = None
    attempt: int = 1
    latency_ms: float = 0.0


@register
class StepFailed(Event):
    """A step's function raised or timed out."""

    type: ClassVar[str] = "step.failed"
    volatile: ClassVar[frozenset[str]] = VOLATILE_OUTCOME

    operation: str
    digest: str
    failure: Failure
    attempt: int = 1
    final: bool = True
    delay_ms: float | None = None
    latency_ms: float = 0.0
    retriable: bool | None = None


@register
class ModelCallRequested(Event):
    """Intent of a model call, the request by reference.

    The messages are the first ``kept`` messages of the request of the model call ``previous`` of the
    same run, followed by ``added``. An added item is a message, or
    ``{"result_of": operation, "tool_call_id": id}`` for what a tool call came to, or
    ``{"reply_of": operation}`` for a reply, or
    ``{"state": path, "first": index, "count": n}`` for some that stand in the state which the run continued as. ``messages_digest`` chains over all of them.
    ``tools`` is present where this run records this set of tools for the first time.
    """

    type: ClassVar[str] = "model_call.requested"

    operation: str
    digest: str
    model: str
    parameters: JsonObject
    tools_digest: str | None = None
    tools: tuple[JsonObject, ...] | None = None
    previous: str | None = None
    kept: int = 0
    added: tuple[JsonObject, ...] = ()
    messages_digest: str
    messages_count: int


@register
class ModelCallCompleted(Event):
    """The model replied. ``message`` is the assistant's message in the chat-completions shape."""

    type: ClassVar[str] = "model_call.completed"
    volatile: ClassVar[frozenset[str]] = VOLATILE_OUTCOME | {"response_id", "usage"}

    operation: str
    message: JsonObject
    finish_reason: str | None = None
    provider: str | None = None
    model_returned: str | None = None
    response_id: str | None = None
    usage: Usage = Usage()
    attempt: int = 1
    latency_ms: float = 0.0


@register
class ModelCallFailed(Event):
    """An attempt of a model call failed; ``final`` when it was the last.

    ``usage`` is what the attempt used up, as far as the provider said so; null where it said nothing.
    """

    type: ClassVar[str] = "model_call.failed"
    volatile: ClassVar[frozenset[str]] = VOLATILE_OUTCOME | {"usage"}

    operation: str
    failure: Failure
    attempt: int = 1
    final: bool = True
    delay_ms: float | None = None
    latency_ms: float = 0.0
    usage: Usage | None = None
    retriable: bool | None = None


@register
class ToolCallRequested(Event):
    """Intent of a tool call. ``digest`` is that of its recorded arguments; ``key`` its idempotency key."""

    type: ClassVar[str] = "tool_call.requested"
    volatile: ClassVar[frozenset[str]] = frozenset({"key", "attempt"})

    operation: str
    digest: str
    tool: str
    effect: EffectKind
    arguments: JsonValue = None
    key: str | None = None
    tool_call_id: str | None = None
    attempt: int = 1
    trusted: bool | None = None
    """True where whoever runs the agent answers for what the tool gives, and where it is part of the run's own code."""


@register
class ToolCallCompleted(Event):
    """A tool returned."""

    type: ClassVar[str] = "tool_call.completed"
    volatile: ClassVar[frozenset[str]] = VOLATILE_OUTCOME

    operation: str
    result: JsonValue = None
    attempt: int = 1
    latency_ms: float = 0.0


@register
class ToolCallFailed(Event):
    """A tool raised, timed out, or could not be called with these arguments."""

    type: ClassVar[str] = "tool_call.failed"
    volatile: ClassVar[frozenset[str]] = VOLATILE_OUTCOME

    operation: str
    failure: Failure
    attempt: int = 1
    final: bool = True
    delay_ms: float | None = None
    latency_ms: float = 0.0
    retriable: bool | None = None


@register
class ToolCallInDoubt(Event):
    """A write without a key was cut off after its intent: nobody knows whether it happened."""

    type: ClassVar[str] = "tool_call.in_doubt"

    operation: str
    attempt: int = 1
    cause: str
    refused: str | None = None
    """Id of a settlement that did not fit the tool, so that the doubt remains."""


@register
class ToolCallReported(Event):
    """A worker that had lost its claim tells what a write came to, so that it need not stay in doubt."""

    type: ClassVar[str] = "tool_call.reported"
    volatile: ClassVar[frozenset[str]] = VOLATILE_OUTCOME | {"epoch"}

    operation: str
    epoch: int
    attempt: int = 1
    result: JsonValue = None
    failure: Failure | None = None


@register
class ToolCallSettled(Event):
    """What a write in doubt came to, or that it did not happen and is to be made again.

    A person says so, from outside the run; or the tool's own reconcile function, and then the run itself
    writes this, ``by`` is ``reconcile``, and the settlement is observed at once.
    """

    type: ClassVar[str] = "tool_call.settled"

    operation: str
    outcome: Literal["completed", "failed", "again"]
    result: JsonValue = None
    failure: Failure | None = None
    by: str | None = None


@register
class ToolCallUnreconciled(Event):
    """The tool's reconcile function was asked about a write in doubt and could not tell, so the doubt remains.

    Without a failure it said that it does not know. ``final`` when it is not asked again before a resume.
    """

    type: ClassVar[str] = "tool_call.unreconciled"

    operation: str
    failure: Failure | None = None
    attempt: int = 1
    final: bool = True
    delay_ms: float | None = None
    latency_ms: float = 0.0


class Option(BaseModel):
    """An answer that a question offers: its label is what is answered, the description says what it means."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: str
    description: str = ""


@register
class QuestionAsked(Event):
    """The code asks a person and waits; or it asks the client of the run for the result of a tool that this executes.

    Then ``tool`` is its name, with the arguments, and the answer is ``{"result": …}`` or ``{"error": text}``.
    """

    type: ClassVar[str] = "question.asked"
    volatile: ClassVar[frozenset[str]] = frozenset({"due"})
    came_later: ClassVar[frozenset[str]] = frozenset({"tool", "arguments", "tool_call_id"})

    operation: str
    digest: str
    question: str
    options: tuple[str, ...] | None = None
    due: int | None = None
    """When the code stops waiting for the answer, microseconds since 1970."""
    descriptions: tuple[str, ...] | None = None
    """What each of the options means; null where nothing is said of any."""
    allow_free_form: bool | None = None
    """Whether an answer may be none of the options; null, which is as true, where there are none."""
    answer_schema: JsonObject | None = None
    """The JSON schema that the answer has to fit."""
    tool: str | None = None
    arguments: JsonValue = None
    tool_call_id: str | None = None


@register
class ApprovalRequested(Event):
    """The code asks for leave to do something, and waits."""

    type: ClassVar[str] = "approval.requested"
    volatile: ClassVar[frozenset[str]] = frozenset({"due"})

    operation: str
    digest: str
    action: str
    details: JsonValue = None
    due: int | None = None
    shown_digest: str | None = None
    """Of what exactly is to be approved: a tool call's name and arguments, or else the action and its details."""


@register
class ApprovalDecided(Event):
    """A person's decision, written from outside the run; or, when the time was over, the run's own: denied."""

    type: ClassVar[str] = "approval.decided"
    volatile: ClassVar[frozenset[str]] = frozenset({"by", "shown_digest"})

    operation: str
    approved: bool
    reason: str | None = None
    by: str | None = None
    shown_digest: str | None = None
    """Of what the person was shown, where that was said; it is the one that was requested."""


@register
class QuestionAnswered(Event):
    """A person's answer, written from outside the run."""

    type: ClassVar[str] = "question.answered"
    volatile: ClassVar[frozenset[str]] = frozenset({"by"})

    operation: str
    answer: JsonValue = None
    by: str | None = None


@register
class QuestionExpired(Event):
    """The code waits for the answer no longer: it cut the waiting off (``cancelled``), or its time is over (``timeout``)."""

    type: ClassVar[str] = "question.expired"
    volatile: ClassVar[frozenset[str]] = frozenset({"latency_ms"})

    operation: str
    cause: str
    latency_ms: float = 0.0


@register
class ValueRecorded(Event):
    """The clock, a random number or a fresh id, as the code saw it; or from where on it is not to be trusted."""

    type: ClassVar[str] = "value.recorded"
    volatile: ClassVar[frozenset[str]] = frozenset({"value"})

    operation: str
    kind: Literal["now", "uuid", "random", "patched", "distrusted"]
    value: JsonValue = None


@register
class RaceWon(Event):
    """The first of the branches of a race came to its end, with a result or an error; the others are cut off.

    ``winner`` is its number, counted from 0, of ``branches``.
    """

    type: ClassVar[str] = "race.won"

    operation: str
    winner: int
    branches: int
