"""Questions that a model asks the user: a tool of the run, with a limit to how often, and none asked twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import Field

from evrt.agents.markers import ASK_USER, FINAL, Final, Question, decision
from evrt.agents.settings import Decided
from evrt.effects.tools import Tool
from evrt.errors import TimedOut, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.calls import Option
from evrt.events.canonical import canonical
from evrt.retry import Length, parse_length
from evrt.runtime.context import Context

Autonomy = Literal["low", "medium", "high"]

QUESTIONS_MAX: dict[Autonomy, int] = {"low": 5, "medium": 3, "high": 1}
"""How many questions a run may ask: who is to decide little by itself may ask most."""

OPTIONS_COUNT = 3
"""A model that offers options offers so many, beside whatever the user says in words of their own."""

NAME = "ask_user"
DESCRIPTION = (
    "Ask the user a question and wait for the answer. Ask only for what you cannot find out or decide yourself. "
    f"Offer either no options, or exactly {OPTIONS_COUNT}, each with a label and what it means; the user may always "
    "say something else, unless allow_free_form is false."
)

REPEATED = "You have asked this before in this run; this is what came of it then."
AT_THE_SAME_TIME = (
    "You are asking this in another call at this moment: the answer to that one is the answer to this."
)
GO_ON = f"Go on. Begin your text with {FINAL} when it is the answer, or with {ASK_USER} when it is a question to the user."
NOT_ASKED = "Nobody can be asked in this run. Decide for yourself, and say what you assumed."
NOBODY = "Nobody answered in time. Decide for yourself, and say what you assumed."


@dataclass(frozen=True, slots=True)
class Questions:
    """That an agent may ask its user, with the tool ``ask_user``.

    autonomy
        how much it decides by itself: "low" may ask 5 questions in a run, "medium" 3, "high" 1.
    expires
        how long an answer is waited for ("2d", seconds); then the model is told to decide for itself.
    questions_max
        another limit than that of ``autonomy``.
    """

    autonomy: Autonomy = "medium"
    expires: Length | None = None
    questions_max: int | None = None

    def __post_init__(self) -> None:
        """Raises UsageError, InvalidInput."""
        if self.autonomy not in get_args(Autonomy):
            raise UsageError(f"Questions: autonomy is 'low', 'medium' or 'high', not {self.autonomy!r}.")
        if self.questions_max is not None and self.questions_max < 0:
            raise UsageError(f"Questions: questions_max is 0 or more, not {self.questions_max}.")
        if self.expires is not None:
            parse_length(self.expires)

    @property
    def limit(self) -> int:
        """How many questions one run may ask."""
        return QUESTIONS_MAX[self.autonomy] if self.questions_max is None else self.questions_max

    def begin(self, state: JsonValue = None) -> AskUser:
        """What one run of a loop asks with; ``state`` is what ``AskUser.to_state`` gave before it continued anew."""
        asks = AskUser(self)
        if state is not None:
            asks.restore(state)
        return asks


def question_key(text: str) -> str:
    """What a question is recognised by: SHA-256 of its text without outer white space, in lower case, with single spaces."""
    return sha256(" ".join(text.lower().split()).encode()).hexdigest()


class AskUser:
    """The questions of one run of a loop, and what came of them; ``tool`` is what the model asks with."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._came: dict[str, JsonValue] = {}
        """What the model was told, by the question's key; null while it waits."""
        self.tool = Tool.from_function(self._function(), name=NAME, description=DESCRIPTION, trusted=True)

    def to_state(self) -> JsonObject:
        """What has been asked, and what came of it, as JSON: for ``ctx.continue_as``."""
        return {"came": {key: told for key, told in self._came.items() if told is not None}}

    def restore(self, state: Any) -> None:
        """Go on where ``to_state`` was taken."""
        self._came.update(state["came"])

    async def ask(
        self,
        ctx: Context[Any],
        question: str,
        options: list[Option] | None = None,
        *,
        allow_free_form: bool = True,
    ) -> JsonObject:
        """Ask, unless it has been asked or the limit is reached; what the model is told: an ``answer`` and maybe a ``note``."""
        key = question_key(question)
        if key in self._came:
            earlier = cast(JsonObject | None, self._came[key])
            return {"answer": None, "note": AT_THE_SAME_TIME} if earlier is None else _again(earlier)
        if len(self._came) >= self._questions.limit:
            return {"answer": None, "note": self._used_up()}
        self._came[key] = None
        told: JsonObject | None = None
        try:
            answer = await ctx.ask(
                question,
                options,
                allow_free_form=allow_free_form or options is None,
                timeout=self._questions.expires,
            )
            told = {"answer": answer}
        except TimedOut:
            told = {"answer": None, "note": NOBODY}
        finally:
            if told is None:
                del self._came[key]  # It has not been asked, or not to its end.
        self._came[key] = told
        return told

    def _used_up(self) -> str:
        limit = self._questions.limit
        asked = "the one question" if limit == 1 else f"the {limit} questions"
        return f"You have asked {asked} that this run may ask. Decide for yourself, and say what you assumed."

    def _function(self) -> Any:
        async def ask_user(
            ctx: Context[Any],
            question: Annotated[str, Field(min_length=1)],
            options: Annotated[list[Option], Field(min_length=OPTIONS_COUNT, max_length=OPTIONS_COUNT)]
            | None = None,
            allow_free_form: bool = True,
        ) -> dict[str, Any]:
            return await self.ask(ctx, question, options, allow_free_form=allow_free_form)

        return ask_user


def _again(earlier: JsonObject) -> JsonObject:
    return {**earlier, "note": f"{REPEATED} {earlier.get('note', '')}".strip()}


def deciding(asks: AskUser | None) -> Callable[[Context[Any], str], Awaitable[Decided]]:
    """What a loop does with texts that are marked: ends with the final one, asks the user, or goes on (``LoopSettings.decide``)."""

    async def decide(ctx: Context[Any], text: str) -> Decided:
        match decision(text):
            case Final(output):
                return Decided(output)
            case Question(question):
                return Decided(text, NOT_ASKED if asks is None else _said(await asks.ask(ctx, question)))
            case _:
                return Decided(text, GO_ON)

    return decide


def _said(told: JsonObject) -> str:
    """What came of a question, as words of the user."""
    answer = told["answer"]
    words = [] if answer is None else [answer if isinstance(answer, str) else canonical(answer).decode()]
    return "\n\n".join([*words, *([str(told["note"])] if "note" in told else [])])
