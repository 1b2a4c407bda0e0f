"""evrt: an event-sourced runtime for LLM agents.

    import evrt
    app = evrt.App("sqlite:///evrt.db")

Names are imported when they are first used, so that ``import evrt`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from evrt.agents.agent import Agent
    from evrt.agents.approving import Approvals
    from evrt.agents.class_agents import RunResult
    from evrt.agents.client_tools import client_tool
    from evrt.agents.compaction import Compaction
    from evrt.agents.config import AgentConfig
    from evrt.agents.history_compaction import HistoryCompaction
    from evrt.agents.hooks import Hooks
    from evrt.agents.journeys.detecting import KeywordDetector
    from evrt.agents.journeys.journey import Journey
    from evrt.agents.journeys.results import ToolResult
    from evrt.agents.journeys.routing import IntentRouter, Route
    from evrt.agents.journeys.schemas import ToolSchema
    from evrt.agents.journeys.state import JourneyState
    from evrt.agents.journeys.templates import PromptTemplate, StepPrompts
    from evrt.agents.knowledge import Knowledge, Passage
    from evrt.agents.limits import LoopLimits
    from evrt.agents.loop import Ended, Loop
    from evrt.agents.mcp import McpServer
    from evrt.agents.output import Output
    from evrt.agents.prompt_builder import PromptBuilder, RetrievedContext
    from evrt.agents.pruning import Pruning
    from evrt.agents.questions import Questions
    from evrt.agents.routing import TurnFacts
    from evrt.agents.run_events import RunEvent, RunEventType
    from evrt.agents.settings import LoopSettings
    from evrt.agents.shields import Verdict
    from evrt.agents.sub_agents import SubAgent
    from evrt.agents.tiers import TierConfig, Tiers, tiers_from_env
    from evrt.agents.toolgroups import ToolGroup
    from evrt.agents.workflow import Workflow
    from evrt.app import App, Running
    from evrt.effects.contract import Model, ModelError, ModelReply, ModelRequest
    from evrt.effects.reconcile import Completed, Failed, NotDone, Unknown
    from evrt.effects.tools import Tool, ToolContext, tool
    from evrt.errors import (
        ChildFailed,
        Conflict,
        ContextTooLarge,
        EvrtError,
        Fenced,
        InvalidInput,
        ModelFailed,
        NotFound,
        OutcomeUnknown,
        ReplayDivergence,
        StepFailed,
        StepLimitReached,
        TierNotConfigured,
        TimedOut,
        ToolFailed,
        Unavailable,
        UsageError,
    )
    from evrt.events.calls import Option
    from evrt.folds.memory import MemoryChange, MemoryItem
    from evrt.history import Run
    from evrt.limits import RateLimit, RunPolicy
    from evrt.log import open_log
    from evrt.log.blobs import Blob
    from evrt.principal import Anonymous
    from evrt.projection import Columns, Correlation, Document, Everything, Projection, Stream
    from evrt.projector.views import Views
    from evrt.remembering import MemoryPolicy
    from evrt.responding import Asked, respond_with
    from evrt.result import ReplayReport, Result
    from evrt.retry import Retry
    from evrt.runtime.approvals import Approval
    from evrt.runtime.children import Child
    from evrt.runtime.context import Context
    from evrt.runtime.race import Won
    from evrt.runtime.reply import Reply, ToolOutcome
    from evrt.runtime.transcript import Transcript
    from evrt.secret_patterns import redact_secrets
    from evrt.waiting import Queued
    from evrt.worker.worker import Worker, working

HOMES = {
    "Agent": "evrt.agents.agent",
    "AgentConfig": "evrt.agents.config",
    "Anonymous": "evrt.principal",
    "App": "evrt.app",
    "Approval": "evrt.runtime.approvals",
    "Approvals": "evrt.agents.approving",
    "Asked": "evrt.responding",
    "Blob": "evrt.log.blobs",
    "Child": "evrt.runtime.children",
    "ChildFailed": "evrt.errors",
    "Columns": "evrt.projection",
    "Compaction": "evrt.agents.compaction",
    "Completed": "evrt.effects.reconcile",
    "Conflict": "evrt.errors",
    "Context": "evrt.runtime.context",
    "ContextTooLarge": "evrt.errors",
    "Correlation": "evrt.projection",
    "Document": "evrt.projection",
    "Ended": "evrt.agents.loop",
    "Everything": "evrt.projection",
    "EvrtError": "evrt.errors",
    "Failed": "evrt.effects.reconcile",
    "Fenced": "evrt.errors",
    "HistoryCompaction": "evrt.agents.history_compaction",
    "Hooks": "evrt.agents.hooks",
    "IntentRouter": "evrt.agents.journeys.routing",
    "InvalidInput": "evrt.errors",
    "Journey": "evrt.agents.journeys.journey",
    "JourneyState": "evrt.agents.journeys.state",
    "KeywordDetector": "evrt.agents.journeys.detecting",
    "Knowledge": "evrt.agents.knowledge",
    "Loop": "evrt.agents.loop",
    "LoopLimits": "evrt.agents.limits",
    "LoopSettings": "evrt.agents.settings",
    "McpServer": "evrt.agents.mcp",
    "MemoryChange": "evrt.folds.memory",
    "MemoryItem": "evrt.folds.memory",
    "MemoryPolicy": "evrt.remembering",
    "Model": "evrt.effects.contract",
    "ModelError": "evrt.effects.contract",
    "ModelFailed": "evrt.errors",
    "ModelReply": "evrt.effects.contract",
    "ModelRequest": "evrt.effects.contract",
    "NotDone": "evrt.effects.reconcile",
    "NotFound": "evrt.errors",
    "Option": "evrt.events.calls",
    "OutcomeUnknown": "evrt.errors",
    "Output": "evrt.agents.output",
    "Passage": "evrt.agents.knowledge",
    "Projection": "evrt.projection",
    "PromptBuilder": "evrt.agents.prompt_builder",
    "PromptTemplate": "evrt.agents.journeys.templates",
    "Pruning": "evrt.agents.pruning",
    "Questions": "evrt.agents.questions",
    "Queued": "evrt.waiting",
    "RateLimit": "evrt.limits",
    "ReplayDivergence": "evrt.errors",
    "ReplayReport": "evrt.result",
    "Reply": "evrt.runtime.reply",
    "Result": "evrt.result",
    "RetrievedContext": "evrt.agents.prompt_builder",
    "Retry": "evrt.retry",
    "Route": "evrt.agents.journeys.routing",
    "Run": "evrt.history",
    "RunEvent": "evrt.agents.run_events",
    "RunEventType": "evrt.agents.run_events",
    "RunPolicy": "evrt.limits",
    "RunResult": "evrt.agents.class_agents",
    "Running": "evrt.app",
    "StepFailed": "evrt.errors",
    "StepLimitReached": "evrt.errors",
    "StepPrompts": "evrt.agents.journeys.templates",
    "Stream": "evrt.projection",
    "SubAgent": "evrt.agents.sub_agents",
    "TierConfig": "evrt.agents.tiers",
    "TierNotConfigured": "evrt.errors",
    "Tiers": "evrt.agents.tiers",
    "TimedOut": "evrt.errors",
    "Tool": "evrt.effects.tools",
    "ToolContext": "evrt.effects.tools",
    "ToolFailed": "evrt.errors",
    "ToolGroup": "evrt.agents.toolgroups",
    "ToolOutcome": "evrt.runtime.reply",
    "ToolResult": "evrt.agents.journeys.results",
    "ToolSchema": "evrt.agents.journeys.schemas",
    "Transcript": "evrt.runtime.transcript",
    "TurnFacts": "evrt.agents.routing",
    "Unavailable": "evrt.errors",
    "Unknown": "evrt.effects.reconcile",
    "UsageError": "evrt.errors",
    "Verdict": "evrt.agents.shields",
    "Views": "evrt.projector.views",
    "Won": "evrt.runtime.race",
    "Worker": "evrt.worker.worker",
    "Workflow": "evrt.agents.workflow",
    "client_tool": "evrt.agents.client_tools",
    "open_log": "evrt.log",
    "redact_secrets": "evrt.secret_patterns",
    "respond_with": "evrt.responding",
    "tiers_from_env": "evrt.agents.tiers",
    "tool": "evrt.effects.tools",
    "working": "evrt.worker.worker",
}

__all__ = [
    "Agent",
    "AgentConfig",
    "Anonymous",
    "App",
    "Approval",
    "Approvals",
    "Asked",
    "Blob",
    "Child",
    "ChildFailed",
    "Columns",
    "Compaction",
    "Completed",
    "Conflict",
    "Context",
    "ContextTooLarge",
    "Correlation",
    "Document",
    "Ended",
    "Everything",
    "EvrtError",
    "Failed",
    "Fenced",
    "HistoryCompaction",
    "Hooks",
    "IntentRouter",
    "InvalidInput",
    "Journey",
    "JourneyState",
    "KeywordDetector",
    "Knowledge",
    "Loop",
    "LoopLimits",
    "LoopSettings",
    "McpServer",
    "MemoryChange",
    "MemoryItem",
    "MemoryPolicy",
    "Model",
    "ModelError",
    "ModelFailed",
    "ModelReply",
    "ModelRequest",
    "NotDone",
    "NotFound",
    "Option",
    "OutcomeUnknown",
    "Output",
    "Passage",
    "Projection",
    "PromptBuilder",
    "PromptTemplate",
    "Pruning",
    "Questions",
    "Queued",
    "RateLimit",
    "ReplayDivergence",
    "ReplayReport",
    "Reply",
    "Result",
    "RetrievedContext",
    "Retry",
    "Route",
    "Run",
    "RunEvent",
    "RunEventType",
    "RunPolicy",
    "RunResult",
    "Running",
    "StepFailed",
    "StepLimitReached",
    "StepPrompts",
    "Stream",
    "SubAgent",
    "TierConfig",
    "TierNotConfigured",
    "Tiers",
    "TimedOut",
    "Tool",
    "ToolContext",
    "ToolFailed",
    "ToolGroup",
    "ToolOutcome",
    "ToolResult",
    "ToolSchema",
    "Transcript",
    "TurnFacts",
    "Unavailable",
    "Unknown",
    "UsageError",
    "Verdict",
    "Views",
    "Won",
    "Worker",
    "Workflow",
    "client_tool",
    "open_log",
    "redact_secrets",
    "respond_with",
    "tiers_from_env",
    "tool",
    "working",
]


def __getattr__(name: str) -> object:
    home = HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'evrt' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
