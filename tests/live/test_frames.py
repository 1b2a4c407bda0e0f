"""The pure part: frames become text, whatever batches they come in, and secrets do not get into them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from evrt.live.frames import GAP, Delta, Frame, Place, Shown, advance, fold_frames, show
from evrt.live.redacting import WORD_CHARACTERS_MAX, Redacting
from evrt.seal import keep
from evrt.secret_patterns import redact_secrets

KEY = "sk-abcdefgh12345678ABCDEFGH"
PIECES = st.lists(st.text(min_size=1, max_size=8), max_size=12)


def frames_of(pieces: list[str], *, attempt: int = 1, epoch: int = 1) -> list[Frame]:
    offsets = [sum(map(len, pieces[:number])) for number in range(len(pieces))]
    return [
        Frame("run-1", "model#1", attempt, epoch, offset, piece)
        for offset, piece in zip(offsets, pieces, strict=True)
    ]


@given(PIECES, st.data())
def test_frames_make_the_text_in_whatever_batches_and_however_often_they_come(
    pieces: list[str], data: st.DataObject
) -> None:
    frames = frames_of(pieces)
    place, text = None, ""
    number = 0
    while number < len(frames):
        # A batch may begin before what has been read, as after a lost connection.
        begin = data.draw(st.integers(0, number))
        number = data.draw(st.integers(number + 1, len(frames)))
        for frame in frames[begin:number]:
            for delta in advance(place, frame):
                assert delta.kind == "text"
                assert delta.offset == len(text)
                text += delta.text
                place = delta.end
    assert text == "".join(pieces)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), PIECES), max_size=6))
def test_the_newest_claim_and_attempt_win_and_whatever_comes_late_of_others_is_passed_over(
    spoken: list[tuple[int, int, list[str]]],
) -> None:
    unlike = {(epoch, attempt): pieces for epoch, attempt, pieces in spoken if pieces}
    frames = [
        frame
        for (epoch, attempt), pieces in unlike.items()
        for frame in frames_of(pieces, attempt=attempt, epoch=epoch)
    ]
    shown = fold_frames(frames).get("model#1")
    if not unlike:
        assert shown is None
        return
    newest = max(unlike)
    text = "".join(unlike[newest])
    assert shown == Shown(Place(*newest, len(text)), text)


def test_a_higher_attempt_or_claim_resets_a_reader_who_had_read_something() -> None:
    [first] = advance(None, Frame("run-1", "model#1", 1, 1, 0, "Hel"))
    assert first == Delta("text", "model#1", 1, 1, 0, "Hel")
    attempt = advance(first.end, Frame("run-1", "model#1", 2, 1, 0, "Good"))
    assert [delta.kind for delta in attempt] == ["reset", "text"]
    claim = advance(attempt[-1].end, Frame("run-1", "model#1", 2, 2, 0, "Bye"))
    assert [(delta.kind, delta.epoch) for delta in claim] == [("reset", 2), ("text", 2)]
    assert advance(claim[-1].end, Frame("run-1", "model#1", 2, 1, 4, " day")) == []


def test_what_is_missing_shows_as_a_gap() -> None:
    shown = fold_frames(
        [Frame("run-1", "model#1", 1, 1, 0, "one "), Frame("run-1", "model#1", 1, 1, 10, "three")]
    )
    assert shown["model#1"].text == f"one {GAP}three"
    assert show(shown["model#1"], Delta("end", "model#1", 1, 1, 15, "")).text == f"one {GAP}three"


# ---------------------------------------------------------------------------------------- redaction


def taken(text: str, cuts: list[int]) -> list[str]:
    redacting = Redacting(redact_secrets)
    bounds = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [redacting.take(text[a:b]) for a, b in pairwise(bounds)]


@given(
    st.lists(
        st.sampled_from(["so ", "the key: ", KEY, " ", "\n", "password=hunter22 ", "né", "密钥", "."]),
        max_size=12,
    ),
    st.lists(st.integers(0, 400), max_size=30),
)
def test_no_secret_gets_through_in_pieces_however_the_text_is_cut(words: list[str], cuts: list[int]) -> None:
    text = " ".join([*words, ""])
    shown = "".join(taken(text, cuts))
    assert "abcd" not in shown
    assert "hunter" not in shown
    if KEY not in text and "hunter" not in text:
        assert shown == text


def test_a_private_key_of_many_lines_stays_out_line_by_line() -> None:
    lines = ["A1b2" * 16 for _ in range(20)]
    text = "\n".join(["here:", "-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----", "done "])
    shown = "".join(taken(text, list(range(0, len(text), 7))))
    assert "A1b2A1b2" not in shown
    assert shown.endswith("done ")


def test_text_without_spaces_is_not_held_back_for_ever() -> None:
    redacting = Redacting(redact_secrets)
    assert redacting.take("日本語の") == "日本語の"
    assert redacting.take("x" * (WORD_CHARACTERS_MAX + 1)) != ""
    assert Redacting(keep).take("wo") == "wo"


def test_after_a_tear_the_rest_of_a_word_stays_out() -> None:
    redacting = Redacting(redact_secrets)
    assert redacting.take("key sk-abcdefgh") == "key "
    redacting.tear()
    assert redacting.take("12345678ABCDEFGH and") == " "
    assert redacting.take(" more ") == "and more "
