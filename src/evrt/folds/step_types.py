"""What a step of a turn is, in the four words that clients of agents know: of the operations of a run, those that have one."""

from __future__ import annotations

from enum import StrEnum


class StepType(StrEnum):
    """A step: a model asked, a tool executed, a shield evaluated, or memory read."""

    INFERENCE = "inference"
    TOOL_EXECUTION = "tool_execution"
    SHIELD_CALL = "shield_call"
    MEMORY_RETRIEVAL = "memory_retrieval"


BY_EVENT = {
    "model_call": StepType.INFERENCE,
    "tool_call": StepType.TOOL_EXECUTION,
    "shield": StepType.SHIELD_CALL,
}


def step_type(event_type: str) -> StepType | None:
    """The type of the step that an event is of, by the event's type; None where it is of no step of these."""
    if event_type == "memory.recalled":
        return StepType.MEMORY_RETRIEVAL
    return BY_EVENT.get(event_type.partition(".")[0])
