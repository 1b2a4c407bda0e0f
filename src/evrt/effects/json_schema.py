"""Values checked against a JSON schema: arguments of tools that have one, answers, structured output."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from evrt.errors import UsageError
from evrt.events import JsonObject, JsonValue

FAULTS_MAX = 10
"""How many faults of one value are named."""


class JsonSchema:
    """A schema of JSON Schema (draft 2020-12 where it does not say another). Raises UsageError for one that is none.

    Nothing is fetched: a ``$ref`` leads to what the schema itself holds. With ``formats`` a text has to be what its
    ``format`` says, as far as that can be told without further packages: date, date-time, uuid, email, ipv4 and others.
    """

    def __init__(self, schema: JsonObject, *, of: str, formats: bool = False) -> None:
        # They take a tenth of a second to import, and few programs need them.
        from jsonschema import Draft202012Validator, SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry

        kind: Any = validator_for(schema, default=Draft202012Validator)
        try:
            kind.check_schema(schema)
        except SchemaError as error:
            place = ".".join(str(part) for part in error.absolute_path) or "its top"
            raise UsageError(f"The JSON schema of {of} is none, at {place}: {error.message:.300}.") from error
        self.schema = schema
        self._of = of
        checker = _format_checker(kind) if formats else None
        self._validator = kind(schema, registry=Registry(), format_checker=checker)

    def faults(self, value: JsonValue) -> str | None:
        """What is wrong with a value, each fault with its place; None where it fits. Raises UsageError (a $ref that leads nowhere)."""
        from referencing.exceptions import Unresolvable

        try:
            found = sorted(
                self._validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path))
            )
        except Unresolvable as error:
            raise UsageError(
                f"The JSON schema of {self._of} refers to {error.ref!r:.200}, which it does not hold."
            ) from error
        if not found:
            return None
        told = [
            f"{'.'.join(str(part) for part in error.absolute_path) or 'the value'}: {error.message:.300}"
            for error in found[:FAULTS_MAX]
        ]
        more = len(found) - len(told)
        return "; ".join(told) + (f"; and {more} more" if more else "")


def _format_checker(kind: Any) -> Any:
    from jsonschema import FormatChecker

    checker = FormatChecker()
    checker.checkers = {
        **kind.FORMAT_CHECKER.checkers,
        "date-time": (_is_date_time, ValueError),
    }
    return checker


def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value) is not None
