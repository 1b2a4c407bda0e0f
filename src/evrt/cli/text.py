"""Values and times as short text."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime

SHORT_CHARACTERS_MAX = 160

REORDERING = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that make others stand in another order than they have: a text could show as what it is not."""
CONTROLS = {
    code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029, *REORDERING)
}

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def rfc3339(microseconds: int) -> str:
    """A time of the log in UTC, to the microsecond."""
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{microseconds % 1_000_000:06d}Z"


def rfc3339_or_none(microseconds: int | None) -> str | None:
    return None if microseconds is None else rfc3339(microseconds)


def local_time(microseconds: int) -> str:
    """A time of the log for a person: theirs, to the millisecond."""
    moment = datetime.fromtimestamp(microseconds / 1_000_000, UTC).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}.{microseconds % 1_000_000 // 1_000:03d}"


def local_date(microseconds: int) -> str:
    """The day of a time of the log, where the person is."""
    return local_time(microseconds)[:10]


def local_time_of_day(microseconds: int) -> str:
    """A time of the log without its day, to the millisecond."""
    return local_time(microseconds)[11:]


def ago(microseconds: int) -> str:
    """How long ago a time of the log was."""
    seconds = time.time() - microseconds / 1_000_000
    if seconds < 0:
        return rfc3339(microseconds)  # The clock of whoever wrote it is ahead of ours.
    if seconds < 2:
        return "just now"
    if seconds < 2 * DAY:
        return f"{duration(seconds)} ago"
    return f"{seconds // DAY:.0f} days ago"


def duration(seconds: float) -> str:
    """A duration in the one or two largest units that it has."""
    if seconds < 1:
        return f"{seconds * 1_000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} min"
    hours, rest = divmod(seconds, HOUR)
    return f"{hours:.0f} h {rest // MINUTE:.0f} min"


def short(value: object, characters_max: int = SHORT_CHARACTERS_MAX) -> str:
    """A JSON value in one line, cut where it is long; of one that a view has only the beginning of, that."""
    from evrt.folds import clip

    match value:
        case {clip.CLIPPED: {"begins": str(begins)}}:
            return f"{words(begins, characters_max - 1).removesuffix('…')}…"
    return cut(json.dumps(value, ensure_ascii=False), characters_max)


def words(text: str, characters_max: int = SHORT_CHARACTERS_MAX) -> str:
    """A text in one line, without quotes, cut where it is long."""
    return cut(" ".join(text.split()), characters_max)


def cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else f"{text[: characters_max - 1]}…"


def one_line(text: str) -> str:
    """A text with its control characters, line ends among them, as escapes."""
    return text if text.isprintable() else text.translate(CONTROLS)


def pretty(value: object) -> str:
    """A value for a person: text as it is, everything else as indented JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def listed(things: list[str], conjunction: str = "and") -> str:
    """``a, b and c``."""
    if len(things) < 2:
        return "".join(things)
    return f"{', '.join(things[:-1])} {conjunction} {things[-1]}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """``1 event``, ``2 events``."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def json_or_text(given: str) -> object:
    """What a person typed: JSON if it is JSON, else text."""
    try:
        return json.loads(given, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return given


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):  # 1e999: what JSON can say and nothing can hold.
        raise ValueError(f"{digits} is too large a number")
    return number


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
