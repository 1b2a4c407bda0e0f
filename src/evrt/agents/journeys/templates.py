"""Prompts of steps: templates with ``$name`` that are filled from the state, or functions of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeAlias, TypeVar

from evrt.agents.journeys.state import JourneyState
from evrt.errors import UsageError

State = TypeVar("State", bound=JourneyState[Any])
Step = TypeVar("Step", bound=Enum)

NAMED = re.compile(r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_][A-Za-z0-9_]*)|\{(?P<braced>[^{}]*)\})")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LINE_ENDS = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")

OPENING = re.compile(r"^[ \t]*(?:#{1,6}(?=\s|$)|`{3,}|~{3,}|(?:=+|-+)(?=\s*$))")
"""What opens a heading or a fence where the value stands at the beginning of a line."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A text with ``$name`` and ``${name}``; ``$$`` is a dollar sign, and so is one that no name follows (``$5``).

    ``defaults`` stand in for what is not given. Values come in on one line each, so that what a user said cannot look
    like a paragraph or a heading of the prompt.
    """

    text: str
    defaults: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for found in NAMED.finditer(self.text):
            braced = found["braced"]
            if braced is not None and not IDENTIFIER.fullmatch(braced):
                raise UsageError(
                    f"A prompt has {found[0]!r:.80}, which names nothing: write ${{name}} with a name of letters, digits "
                    "and _, or $$ for a dollar sign."
                )

    @property
    def names(self) -> frozenset[str]:
        """The variables that the text asks for."""
        found = (match["plain"] or match["braced"] for match in NAMED.finditer(self.text))
        return frozenset(name for name in found if name)

    def render(self, **variables: object) -> str:
        """The text with its variables filled in. Raises UsageError that names what is missing, and what there is."""
        known = {**self.defaults, **variables}
        missing = sorted(self.names - known.keys())
        if missing:
            there = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"The prompt {_begin(self.text)} asks for {', '.join(f'${name}' for name in missing)}, and there is no such "
                f"variable. There are: {there}. Give it, or give the template a default."
            )
        return NAMED.sub(
            lambda m: "$" if m["dollar"] else _shown(known[m["plain"] or m["braced"]]), self.text
        )


Prompt: TypeAlias = str | PromptTemplate | Callable[[State], str]
"""What is said to the model at a step: a template, its text, or a function of the state."""


class StepPrompts(Generic[State, Step]):
    """A prompt for each step. ``StepPrompts(mapping={Step.WELCOME: "…"}, default="…")``.

    default
        for steps without one.
    defaults
        variables by name, for those that neither the state nor the caller has.
    enrich
        gives further variables, from the state.
    """

    def __init__(
        self,
        mapping: Mapping[Step, Prompt[State]] | None = None,
        *,
        default: Prompt[State] | None = None,
        defaults: Mapping[str, object] | None = None,
        enrich: Callable[[State], Mapping[str, object]] | None = None,
    ) -> None:
        self._prompts: dict[Step, Prompt[State]] = {}
        self._default = None if default is None else _template(default)
        self._defaults = dict(defaults or {})
        self._enrich = enrich
        for step, prompt in (mapping or {}).items():
            self.add(step, prompt)

    @property
    def steps(self) -> frozenset[Step]:
        """The steps that have a prompt of their own."""
        return frozenset(self._prompts)

    def add(self, step: Step, prompt: Prompt[State]) -> None:
        """Give a step its prompt, in place of the one it has. Raises UsageError for a template that is none."""
        self._prompts[step] = _template(prompt)

    def get(self, step: Step, **variables: object) -> str:
        """The prompt of a step with these variables; empty where it has none and there is no default.

        Raises UsageError for a missing variable, and for a prompt that is a function of the state: see ``render``.
        """
        prompt = self._prompts.get(step, self._default)
        if prompt is None:
            return ""
        if not isinstance(prompt, PromptTemplate):
            raise UsageError(
                f"The prompt of {step.value} is a function of the state: use render(state), not get(step)."
            )
        return prompt.render(**{**self._defaults, "step": step.value, **variables})

    def render(self, state: State) -> str:
        """The prompt of the state's step; its variables are the fields of the state and what ``enrich`` adds."""
        step: Step = state.step
        prompt = self._prompts.get(step, self._default)
        if prompt is not None and not isinstance(prompt, str | PromptTemplate):
            return prompt(state)
        fields = {name: getattr(state, name) for name in type(state).model_fields if name != "step"}
        return self.get(step, **{**fields, **(self._enrich(state) if self._enrich else {})})


def _template(prompt: Prompt[State]) -> Prompt[State]:
    return PromptTemplate(prompt) if isinstance(prompt, str) else prompt


def _shown(value: object) -> str:
    """A value as one line of text."""
    text = LINE_ENDS.sub(" ", str(value.value if isinstance(value, Enum) else value))
    return OPENING.sub(r"\\\g<0>", text)


def _begin(text: str) -> str:
    return f"{text[:40]!r}" + ("…" if len(text) > 40 else "")
