"""Answers that a schema refuses are refused, and text in parts is text."""

from __future__ import annotations

import datetime

import pytest
from pydantic import BaseModel

from evrt.agents.output import Output
from evrt.errors import InvalidInput
from evrt.events.calls import Usage
from evrt.runtime.reply import Reply


class Counted(BaseModel):
    n: int
    day: datetime.date | None = None


@pytest.mark.parametrize("answer", ['{"n": "5"}', '{"n": true}'])
def test_an_answer_of_another_type_does_not_fit(answer: str) -> None:
    with pytest.raises(InvalidInput, match="n: "):
        Output.of(Counted).read(answer)


def test_a_date_is_still_written_as_text() -> None:
    assert Output.of(Counted).read('{"n": 5, "day": "2026-11-28"}') == {"n": 5, "day": "2026-11-28"}


def test_the_format_of_a_json_schema_is_checked() -> None:
    wanted = Output.of({"type": "object", "properties": {"day": {"type": "string", "format": "date"}}})
    assert wanted.read('{"day": "2026-11-28"}') == {"day": "2026-11-28"}
    with pytest.raises(InvalidInput):
        wanted.read('{"day": "soon"}')


def test_the_text_of_a_reply_in_parts_is_that_of_its_text_parts() -> None:
    parts = [{"type": "text", "text": "hi "}, {"type": "image"}, {"type": "text", "text": "there"}]
    reply = Reply("model#1", {"role": "assistant", "content": parts}, "stop", "m", Usage())
    assert reply.text == "hi there"
