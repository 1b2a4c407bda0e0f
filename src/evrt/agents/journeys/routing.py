"""Routing: an agent that finds out which journey a message is for, and has the conversation stay there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from evrt.agents.journeys.closing import CLOSING_PHRASES, is_closing, last_words
from evrt.agents.journeys.detecting import CONFIDENCE_MIN, Detector, KeywordDetector
from evrt.agents.journeys.journey import Journey
from evrt.effects.tools import NAME, Tool
from evrt.errors import Conflict, ModelFailed, NotFound, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.run import Kind
from evrt.limits import PLAIN, RunPolicy
from evrt.requesting import Pin
from evrt.retry import RUN_RETRY, Retry, parse_seconds
from evrt.runtime.context import Context
from evrt.runtime.runner import TIMEOUT_SECONDS

ROUTING_TURNS_MAX = 3
"""How often the model is asked to choose, where it names a route that does not exist."""
TRIES_MAX = 10
"""How often to look again where somebody else routes the conversation at the same moment."""
INSTRUCTIONS = (
    "Find out what the user wants. Call the one tool that fits; what follows is then taken care of. "
    "If none fits, or you cannot tell, say so in a sentence and ask."
)

By = Literal["model", "keywords", "default", "code", "person"]


class Conversing(Protocol):
    """What a route leads to: a journey, or any agent or workflow."""

    @property
    def name(self) -> str: ...
    @property
    def retry(self) -> Retry: ...
    @property
    def policy(self) -> RunPolicy: ...
    @property
    def execute(self) -> Callable[[Context[Any], JsonValue], Coroutine[Any, Any, Any]]: ...


@dataclass(frozen=True, slots=True)
class Route:
    """A way to a journey. ``name`` is that of the tool by which a model takes it, ``description`` when to take it.

    ``keywords`` are what it is taken by where no model can be asked.
    """

    journey: Conversing
    name: str
    description: str
    keywords: Collection[str] = ()


class IntentRouter:
    """An agent that passes each message on to a journey. Register it with ``app.add``.

    A journey that has been chosen is stayed with until it has ended or the conversation is rerouted
    (``app.journeys.reroute``). Whoever chose is recorded, as ``journey.routed``. A route to anything else than a journey is taken for one
    message.

    key
        its name in the app.
    routes
        among which the model chooses.
    detector
        guesses when the model fails or takes no route; without one, it counts the routes' keywords.
    confidence_min
        from which confidence on such a guess counts, 0 to 1.
    default
        the name of the route that is taken when nobody knows; without one, the model's own words are the answer.
    """

    kind: Kind = "agent"
    pin: Pin | None = None

    def __init__(
        self,
        key: str,
        *,
        routes: Sequence[Route] = (),
        instructions: str = INSTRUCTIONS,
        detector: Detector | None = None,
        confidence_min: float = CONFIDENCE_MIN,
        default: str | None = None,
        closing_phrases: Collection[str] = CLOSING_PHRASES,
        model: str | None = None,
        timeout: str | float | None = TIMEOUT_SECONDS,
        retry: Retry = RUN_RETRY,
        policy: RunPolicy = PLAIN,
        **parameters: Any,
    ) -> None:
        self.name = key
        self.instructions = instructions
        self.confidence_min = confidence_min
        self.default = default
        self.closing_phrases = closing_phrases
        self.model = model
        self.model_turns_max: int | None = ROUTING_TURNS_MAX
        self.timeout_seconds = None if timeout is None else parse_seconds(timeout)
        self.retry = retry
        self.policy = policy
        self.parameters = parameters
        self._detector = detector
        self._routes: dict[str, Route] = {}
        self._tools: dict[str, Tool] = {}
        for route in routes:
            self.add_route(route)

    # Routes

    @property
    def routes(self) -> Mapping[str, Route]:
        """The routes, by their names."""
        return self._routes

    def add_route(self, route: Route) -> None:
        """Add a route. Raises UsageError for a name that is taken, or that no tool can have."""
        if route.name in self._routes:
            raise UsageError(f"The router {self.name} has a route {route.name} already.")
        if not NAME.fullmatch(route.name):
            raise UsageError(
                f"{route.name!r} cannot name a route: take 1 to 64 letters, digits, _ or -, a letter first."
            )

        async def choose(ctx: Context[Any]) -> JsonValue:
            return {"route": route.name}

        self._routes[route.name] = route
        self._tools[route.name] = Tool.from_function(
            choose, name=route.name, description=route.description, effect="pure"
        )

    def get_tool_schemas(self) -> list[JsonObject]:
        """The routes as a model is offered them: one tool each, without parameters."""
        return [tool.to_openai_format() for tool in self._tools.values()]

    def resolve_tool_call(self, name: str) -> Route:
        """The route of a tool call. Raises NotFound that lists what there is."""
        found = self._routes.get(name)
        if found is None:
            known = ", ".join(self._routes) or "none"
            raise NotFound(f"The router {self.name} has no route {name!r:.80}. It has: {known}.")
        return found

    @property
    def tools(self) -> Sequence[Tool]:
        """The tools of the journeys that it leads to."""
        return [tool for route in self._routes.values() for tool in getattr(route.journey, "tools", ())]

    def check_input(self, value: JsonValue) -> JsonValue:
        """A router takes text, or chat messages, or any JSON as text."""
        return value

    # How it runs

    async def execute(self, ctx: Context[Any], input: JsonValue) -> Any:
        """Pass the message on; returns what the journey answers. Raises what it raises."""
        for _ in range(TRIES_MAX):
            try:
                route = await self._route_of(ctx)
            except Conflict:
                continue  # Somebody else has routed the conversation meanwhile: see how.
            # In the run's own scope, so that it knows what was said before, and long turns have chapters.
            return route if isinstance(route, str) else await route.journey.execute(ctx, input)
        raise UsageError(f"The conversation is being routed too fast for {self.name} to follow.")

    async def _route_of(self, ctx: Context[Any]) -> Route | str:
        """The route that is stayed with, or one that is chosen now, or the words to answer with."""
        kept = ctx.journey(self.name)
        standing = await kept.load()
        if ctx.state is not None and (chosen := self._route_to(standing.route)) is not None:
            return chosen  # The same turn goes on, in another chapter.
        known = await self._known(ctx, standing.route)
        if known is not None and known[1]:
            return known[0]
        if known is not None and is_closing(last_words(ctx.input_messages), self.closing_phrases):
            return ""
        found, by, confidence = await self._choose(ctx)
        if isinstance(found, str):
            return found
        await kept.route(found.journey.name, by=by, confidence=confidence)
        if isinstance(found.journey, Journey):
            await found.journey.begin(ctx)
        return found

    async def _known(self, ctx: Context[Any], name: str | None) -> tuple[Route, bool] | None:
        """The route to the journey that was chosen before, and whether that is still under way."""
        route = self._route_to(name)
        if route is None or not isinstance(route.journey, Journey):
            return None
        return route, (await ctx.journey(route.journey.name).load()).ended is None

    def _route_to(self, name: str | None) -> Route | None:
        return next((each for each in self._routes.values() if each.journey.name == name), None)

    async def _choose(self, ctx: Context[Any]) -> tuple[Route | str, By, float | None]:
        """A route, who chose it, and how certain that is; or the words of a model that chose none."""
        said = ""
        failed: ModelFailed | None = None
        try:
            found = await self._ask_model(ctx)
        except ModelFailed as error:
            found, failed = "", error
        if isinstance(found, Route):
            return found, "model", None
        said = found
        detected = self._detecting().detect(last_words(ctx.input_messages))
        if detected is not None and detected.confidence >= self.confidence_min:
            return self.resolve_tool_call(detected.name), "keywords", detected.confidence
        if self.default is not None:
            return self.resolve_tool_call(self.default), "default", None
        if failed is not None:
            raise failed
        return said, "model", None

    async def _ask_model(self, ctx: Context[Any]) -> Route | str:
        transcript = ctx.transcript()
        transcript.add("system", self.instructions)
        transcript.extend(ctx.input_messages)
        tools = list(self._tools.values())
        said = ""
        for _ in range(ROUTING_TURNS_MAX):
            reply = await ctx.model(
                transcript, model=self.model, tools=tools, name="route", parameters=self.parameters
            )
            transcript.add_reply(reply)
            said = reply.text
            if not reply.tool_calls:
                return said
            # Every call is answered, as a provider wants it; the first that names a route counts.
            outcomes = [await ctx.perform(call, tools) for call in reply.tool_calls]
            for outcome in outcomes:
                transcript.add_result(outcome)
            chosen = [outcome.value["route"] for outcome in outcomes if not outcome.is_error]
            if chosen:
                return self.resolve_tool_call(chosen[0])
        return said

    def _detecting(self) -> Detector:
        if self._detector is not None:
            return self._detector
        return KeywordDetector({name: route.keywords for name, route in self._routes.items()})
