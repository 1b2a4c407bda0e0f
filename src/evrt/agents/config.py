"""What an agent is as data: every setting of it as JSON, checked strictly, with the defaults that count where none is given.

A definition keeps what was given and nothing else, so that what is left out comes from its parent, or is the default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from evrt.errors import InvalidInput
from evrt.events import JsonObject
from evrt.retry import parse_seconds

TOOL_TIMEOUT_SECONDS = 30.0
"""How long a tool named by a definition may take, where neither says otherwise."""

TOP_K = 5
THRESHOLD = 0.7
KNOWLEDGE_CHARACTERS_MAX = 512 * 1024
"""Of one piece of knowledge. An event holds all that one revision of an agent is, and has a limit of its own."""

Mode = Literal["always", "rag"]
When = Literal["never", "untrusted", "always"]
Inject = Literal["system", "context", "knowledge"]
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Part(BaseModel):
    """Part of a configuration: nothing is converted, and nothing is taken that it does not know."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class KnowledgeEntry(Part):
    """A piece of knowledge: a text, or the name of a file whose text it is once the definition has been read.

    ``always`` is in the prompt; of ``rag`` what answers to the last message of the user is looked for, in each run:
    at most ``top_k`` passages, with at least ``threshold`` of the score of the best.
    """

    name: Name
    text: Annotated[str, Field(max_length=KNOWLEDGE_CHARACTERS_MAX)] | None = None
    file: Annotated[str, Field(min_length=1)] | None = None
    mode: Mode = "always"
    top_k: Annotated[int, Field(ge=1, le=100)] = TOP_K
    threshold: Annotated[float, Field(ge=0, le=1)] = THRESHOLD
    trusted: bool | None = None
    """Whether what it says may be acted on; without it a text is, and what was read from a file is not."""

    @model_validator(mode="after")
    def _one_source(self) -> KnowledgeEntry:
        if self.text is None and self.file is None:
            raise ValueError("it has neither a text nor a file")
        return self

    @property
    def is_trusted(self) -> bool:
        return self.file is None if self.trusted is None else self.trusted


class SystemKnowledge(KnowledgeEntry):
    """What all members of a system know.

    ``inject`` says where it goes: into the "system" prefix, before the messages as their "context", or among the
    agent's own "knowledge". A higher ``priority`` comes first.
    """

    inject: Inject = "knowledge"
    priority: Annotated[int, Field(ge=-1_000, le=1_000)] = 0


class ToolEntry(Part):
    """A tool of the app, by its name, with what is different for this agent."""

    name: Name
    confirm: bool | None = None
    """Whether a person has to approve each call; without it, as the tool itself says."""
    timeout_seconds: Annotated[float, Field(gt=0)] | None = None
    """Without it the tool's own, and where it has none, TOOL_TIMEOUT_SECONDS."""


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _length(value: str | float) -> str | float:
    try:
        parse_seconds(value)
    except InvalidInput as error:
        raise ValueError(str(error)) from error
    return value


LengthOfTime = Annotated[str | float, AfterValidator(_length)]
"""Seconds, or a text such as "10m"."""
Count = Annotated[int, Field(gt=0)]


class Limits(Part):
    """What one run may use up; what is not given is as for any agent, and null is no limit."""

    model_turns_max: Count = 10
    tool_rounds_max: Count | None = None
    tokens_max: Count | None = None
    cost_usd_max: Annotated[float, Field(gt=0)] | None = None
    wall_clock: LengthOfTime | None = None
    """Since the run's code began, waits included."""
    tool_errors_max: Count | None = 3
    timeout: LengthOfTime | None = 900.0
    """Of each attempt of a run, waits not counted."""


class ClientTool(Part):
    """A tool that the client of a run executes. ``parameters`` is the JSON schema of its arguments, an object's."""

    name: Name
    description: str = ""
    parameters: dict[str, Any] = {"type": "object", "properties": {}}
    """As JSON schema."""
    metadata: dict[str, Any] = {}


class SubAgentEntry(Part):
    """An agent that this one may ask, or hand over to, by its name: see ``evrt.agents.sub_agents.SubAgent``."""

    agent: Name
    mode: Literal["delegate", "handoff"] = "delegate"
    context: Literal["full", "summary", "message_only"] = "full"
    description: str | None = None


def _of_agent(value: Any) -> Any:
    return {"agent": value} if isinstance(value, str) else value


class ApprovalsEntry(Part):
    """For which calls it needs a person's leave: see ``evrt.agents.approving.Approvals``."""

    writes: When = "untrusted"
    tools: dict[str, When] = Field(default_factory=dict)
    expires: LengthOfTime | None = None


class QuestionsEntry(Part):
    """That it may ask its user: see ``evrt.agents.questions.Questions``."""

    autonomy: Literal["low", "medium", "high"] = "medium"
    expires: LengthOfTime | None = None
    questions_max: Annotated[int, Field(ge=0)] | None = None


class TierEntry(Part):
    """A model of a tier, and parameters for its provider."""

    model: Name
    parameters: dict[str, Any] = Field(default_factory=dict)


def _of_model(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


OneTier = Annotated[TierEntry, BeforeValidator(_of_model)]


class TiersEntry(Part):
    """Models of different strength, of which the router chooses: see ``evrt.agents.tiers.Tiers``."""

    small: OneTier | None = None
    mid: OneTier | None = None
    frontier: OneTier | None = None


class CompactionEntry(Part):
    """The budget in tokens of a request, beyond which earlier messages are summarised."""

    budget: Count


class AgentConfig(Part):
    """Every setting of an agent that is defined as data."""

    model: str | None = None
    """Without it the app's default."""
    instructions: str = ""
    parameters: dict[str, Any] = {}
    """For the model's provider: temperature, max_tokens …"""
    tools: tuple[Annotated[ToolEntry, BeforeValidator(_named)], ...] = ()
    """Tools of the app by name; ``group/tool`` for one of a group."""
    toolgroups: tuple[Name, ...] = ()
    """Groups of tools of the app, by name."""
    client_tools: tuple[ClientTool, ...] = ()
    tool_choice: str | None = None
    """Whether the model has to call a tool: "auto" (as without it), "required", "none", or the name of a tool."""
    memory_enabled: bool = True
    """Whether it remembers and recalls; false in ``extra.memory_enabled`` counts as well."""
    knowledge: tuple[KnowledgeEntry, ...] = ()
    input_shields: tuple[Name, ...] = ()
    output_shields: tuple[Name, ...] = ()
    limits: Limits = Limits()
    sub_agents: tuple[Annotated[SubAgentEntry, BeforeValidator(_of_agent)], ...] = ()
    """Agents that it may ask, or hand the conversation over to: names, or entries."""
    approvals: ApprovalsEntry | None = None
    questions: QuestionsEntry | None = None
    tiers: TiersEntry | None = None
    tier: Literal["small", "mid", "frontier"] | None = None
    """The one tier that it keeps to."""
    compaction: CompactionEntry | None = None
    history_messages_max: Annotated[int, Field(ge=0)] = 100
    """How many earlier messages of its conversation it is told."""
    terminal_tools: tuple[Name, ...] = ()
    """Tools whose result ends the run."""
    output_schema: dict[str, Any] | None = None
    """JSON schema of what it answers."""
    extra: dict[str, Any] = {}
    """Whatever else belongs to it; kept, and not acted upon, but for ``memory_enabled``."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> AgentConfig:
        for what, names in (
            ("tools", [tool.name for tool in self.tools]),
            ("toolgroups", list(self.toolgroups)),
            ("client_tools", [tool.name for tool in self.client_tools]),
            ("knowledge", [entry.name for entry in self.knowledge]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} has {', '.join(twice)} twice")
        if not isinstance(self.extra.get("memory_enabled", True), bool):
            raise ValueError("extra.memory_enabled has to be true or false")
        return self

    @property
    def remembers(self) -> bool:
        """Whether it has memory."""
        return self.memory_enabled and self.extra.get("memory_enabled", True) is True


def config_of(given: JsonObject) -> AgentConfig:
    """A configuration from JSON. Raises pydantic's ValidationError."""
    # As JSON: strict in Python's types would ask for tuples where JSON has lists.
    return AgentConfig.model_validate_json(orjson.dumps(given))


def knowledge_of(given: JsonObject) -> SystemKnowledge:
    """What a system's members know, from JSON. Raises pydantic's ValidationError."""
    return SystemKnowledge.model_validate_json(orjson.dumps(given))
