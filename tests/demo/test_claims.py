"""Claims are read from a CSV file whole or not at all, and errors name line and column."""

from __future__ import annotations

import csv
import io
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.cases import A_CLAIM, claims, csv_of, like
from evrt.demo.cells import FILE_BYTES_MAX, Problem, rows_of
from evrt.demo.claims import (
    CLAIMS_MAX,
    COLUMNS,
    NOTE_CHARACTERS_MAX,
    SAMPLE_PATH,
    Claim,
    parse_claims,
    read_claims,
)
from evrt.errors import InvalidInput, NotFound

HEADER = ",".join(COLUMNS)
ROW = "C-1,José,2025-09-02,2025-09-30,meals,Café,20.00,EUR,yes,"
SAMPLE = SAMPLE_PATH.read_bytes()


def refusal(content: bytes | str) -> str:
    """The text with which a file is refused."""
    with pytest.raises(InvalidInput) as refused:
        parse_claims(content.encode() if isinstance(content, str) else content, "claims.csv")
    return str(refused.value)


def rows(*changed: dict[str, str]) -> str:
    """A file with one line per dict: that of a good claim, with these cells changed as they stand."""
    lines = [HEADER]
    for number, changes in enumerate(changed, start=1):
        cells = dict(zip(COLUMNS, ROW.split(","), strict=True)) | {"claim": f"C-{number}"} | changes
        lines.append(",".join(cells.values()))
    return "\n".join(lines) + "\n"


def test_the_sample_is_real_enough() -> None:
    sample = read_claims(SAMPLE_PATH)
    assert len(sample) == 48
    assert len({claim.currency for claim in sample}) >= 8
    assert [claim.claim for claim in sample if claim.same_as] == ["C-029", "C-046"]
    by_name = {claim.claim: claim for claim in sample}
    assert by_name["C-012"].merchant == "東京駅弁屋 祭"
    assert by_name["C-018"].note == 'Dinner, "the chef\'s choice", with Tom'
    assert by_name["C-035"].note.endswith("Vienna\n(seat 14C,\nno luggage)")


def unlike_each_other(found: list[Claim]) -> list[Claim]:
    """Claims with names of their own and of which none looks like another."""
    numbered = enumerate(found)
    return [
        like(claim, claim=f"C-{n}", employee=f"{n}{claim.employee}", same_as=None) for n, claim in numbered
    ]


@given(
    st.lists(claims(), min_size=1, max_size=4).map(unlike_each_other),
    st.permutations(COLUMNS),
    st.booleans(),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_claims_written_as_csv_are_read_back_the_same(
    written: list[Claim], columns: list[str], quoted: bool, line_end: str, mark: bytes
) -> None:
    # Python's writer leaves a line feed bare where rows end in another way.
    content = mark + csv_of(written, columns, quoted=quoted or line_end == "\r", line_end=line_end)
    assert parse_claims(content, "claims.csv") == written


def test_a_claim_that_looks_like_an_earlier_one_says_which() -> None:
    again = like(A_CLAIM, claim="C-2", merchant=A_CLAIM.merchant.upper(), amount=Decimal(20), note="again")
    other = like(A_CLAIM, claim="C-3", amount=Decimal("20.01"))
    third = like(A_CLAIM, claim="C-4")
    read = parse_claims(csv_of([A_CLAIM, again, other, third]), "claims.csv")
    assert [claim.same_as for claim in read] == [None, "C-1", None, "C-1"]


def test_blank_lines_and_spaces_around_cells_do_no_harm() -> None:
    spaced = f"\n{HEADER.replace(',', ' ,')}\n\n  {ROW.replace(',', ' , ')}\n,,,,,,,,,\n \n"
    assert parse_claims(spaced.encode(), "x") == [
        like(parse_claims(f"{HEADER}\n{ROW}".encode(), "x")[0], note=" ")
    ]


@pytest.mark.parametrize(
    "cells, expected",
    [
        ({"amount": "12;50"}, "line 2, column amount: found '12;50', expected an amount above 0"),
        ({"amount": '"12,50"'}, "column amount: found '12,50'"),
        ({"amount": "1e5"}, "column amount: found '1e5'"),
        ({"amount": "NaN"}, "column amount: found 'NaN'"),
        ({"amount": "0.00"}, "column amount: found '0.00'"),
        ({"amount": "-3"}, "column amount: found '-3'"),
        ({"amount": "1.234"}, "column amount: found '1.234'"),
        ({"amount": "١٢"}, "column amount: found '١٢'"),
        ({"amount": ""}, "column amount: found ''"),
        ({"date": "02.09.2025"}, "line 2, column date: found '02.09.2025', expected a date"),
        ({"date": "2025-02-30"}, "column date: found '2025-02-30'"),
        ({"date": "20250902"}, "column date: found '20250902'"),
        ({"submitted": "2025-W36-2"}, "column submitted: found '2025-W36-2'"),
        ({"currency": "€"}, "column currency: found '€', expected a currency as three capital letters"),
        ({"currency": "eur"}, "column currency: found 'eur'"),
        ({"receipt": "maybe"}, "column receipt: found 'maybe', expected yes or no"),
        ({"claim": "C 1"}, "column claim: found 'C 1', expected up to 64 letters"),
        ({"claim": ""}, "column claim: found ''"),
        ({"employee": " "}, "column employee: found ' ', expected 1 to 200 characters"),
        ({"merchant": "x" * 201}, f"column merchant: found '{'x' * 39}…'"),
        ({"merchant": '"two\nlines"'}, r"line 2, column merchant: found 'two\nlines'"),
        ({"note": "\x1b[2J"}, r"column note: found '\x1b[2J'"),
        ({"note": "x" * (NOTE_CHARACTERS_MAX + 1)}, "column note: found"),
        ({"note": "one, two"}, "line 2, column 11: found 11 cells, expected 10"),
        ({"note": 'a 5" cable'}, "line 2, column note: found a quote inside a text"),
        ({"note": '"a" cable'}, "line 2, column note: found text behind a closing quote"),
        ({"merchant": '"Café'}, "line 2, column merchant: found a quote that is never closed"),
    ],
)
def test_a_bad_cell_is_named_by_line_and_column(cells: dict[str, str], expected: str) -> None:
    assert expected in refusal(rows(cells))


def test_a_row_too_short_names_the_first_missing_column() -> None:
    assert "line 3, column receipt: found 8 cells, expected 10" in refusal(
        f"{rows({})}C-9,José,2025-09-02,2025-09-30,meals,Café,20.00,EUR\n"
    )


def test_a_claim_named_twice_is_refused_with_both_lines() -> None:
    text = refusal(rows({"note": '"two\nlines"'}, {}, {"claim": "C-1"}))
    assert "line 5, column claim: found 'C-1' again, as on line 2" in text


def test_up_to_five_problems_are_told_at_once_and_the_rest_counted() -> None:
    text = refusal(rows({"amount": "x", "date": "y"}, {}, *[{"receipt": "?"}] * 6))
    assert re.findall(r"line (\d+), column (\w+)", text) == [
        ("2", "date"),
        ("2", "amount"),
        ("4", "receipt"),
        ("5", "receipt"),
        ("6", "receipt"),
    ]
    assert text.endswith("; and 3 more. Mend the file.")


@pytest.mark.parametrize(
    "header, expected",
    [
        (HEADER.replace(",note", ""), "line 1: missing: note; expected are claim, employee"),
        (HEADER + ",colour", "line 1, column 11: found 'colour', which is not a column of claims"),
        (HEADER + ",date", "line 1, column 11: found date a second time"),
        (HEADER.replace("amount", "Amount"), "missing: amount; expected are claim"),
        (HEADER + ",", "line 1, column 11: found ''"),
        (HEADER.replace(",", ";"), "separated by commas"),
        ("\n\n" + HEADER.replace("note", "notes"), "line 3, column 10: found 'notes'"),
    ],
)
def test_a_wrong_header_is_refused_before_any_row(header: str, expected: str) -> None:
    assert expected in refusal(f"{header}\n{ROW}\n")


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", "claims.csv is empty. Its first line has to name the columns: claim, employee"),
        (b"\xef\xbb\xbf \r\n\n", "claims.csv is empty."),
        (HEADER.encode(), "claims.csv holds no claims"),
        (b'"claim', "line 1, column 1: found a quote that is never closed"),
        (rows({}).encode("utf-16"), "claims.csv is text in UTF-16"),
        (b"PK\x03\x04...", "claims.csv is a workbook or a zip file"),
        (rows({}).encode("latin-1"), "line 2, column employee: found the byte 0xe9, which is not UTF-8"),
        (b"\xef\xbb\xbf" + rows({}).encode("latin-1"), "line 2, column employee: found the byte 0xe9"),
        (
            rows({}, {"note": '"a\n\u00e9"'}).replace("é,", "e,").replace("fé", "fe").encode("latin-1"),
            "line 4, column note",
        ),
        (b"a\xff", "line 1, column 1: found the byte 0xff"),
        (b'a"b\n\xff', "line 2: found the byte 0xff"),
        (b" " * (FILE_BYTES_MAX + 1), "claims.csv is larger than 8 MiB"),
    ],
)
def test_what_is_not_a_table_of_text_is_refused(content: bytes, expected: str) -> None:
    assert expected in refusal(content)


def test_ten_thousand_claims_are_the_limit() -> None:
    full = rows(*[{}] * CLAIMS_MAX)
    assert len(parse_claims(full.encode(), "claims.csv")) == CLAIMS_MAX
    over = f"{full}{ROW.replace('C-1,', 'C-0,')}\n"
    assert f"line {CLAIMS_MAX + 2}: a file may hold up to 10,000 claims; split it" in refusal(over)


def test_a_file_that_is_not_there_or_no_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"There is no file .*absent\.csv"):
        read_claims(tmp_path / "absent.csv")
    with pytest.raises(InvalidInput, match="cannot be read: Is a directory"):
        read_claims(tmp_path)


@given(st.lists(claims(), min_size=1, max_size=4).map(unlike_each_other), st.data())
def test_the_line_named_is_the_line_an_editor_shows(written: list[Claim], data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, len(written) - 1))
    column = data.draw(st.sampled_from(["date", "currency", "receipt", "amount"]))
    line_end = data.draw(st.sampled_from(["\n", "\r\n"]))
    columns = data.draw(st.permutations(COLUMNS))
    table = list(csv.reader(io.StringIO(csv_of(written, columns).decode(), newline="")))
    table[wrong + 1][columns.index(column)] = "HERE"
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end).writerows(table)
    editor_line = text.getvalue().partition("HERE")[0].count("\n") + 1
    assert f"line {editor_line}, column {column}: found 'HERE'" in refusal(text.getvalue())


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=1), max_size=5), st.booleans())
def test_cells_are_those_that_the_csv_module_reads(table: list[list[str]], quoted: bool) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerows(table)
    problems: list[Problem] = []
    found = [[cell.text for cell in row] for row in rows_of(text.getvalue(), problems)]
    assert problems == []
    assert found == [
        row
        for row in csv.reader(io.StringIO(text.getvalue(), newline=""))
        if any(cell.strip() for cell in row)
    ]


@given(
    st.integers(0, len(SAMPLE)),
    st.integers(0, 60),
    st.binary(max_size=4) | st.sampled_from([b'"', b",", b"\n"]),
)
def test_a_damaged_file_is_taken_or_refused_in_one_paragraph(at: int, cut: int, put: bytes) -> None:
    damaged = SAMPLE[:at] + put + SAMPLE[at + cut :]
    taken: list[Claim] = []
    refused = ""
    try:
        taken = parse_claims(damaged, "claims.csv")
    except InvalidInput as error:
        refused = str(error)
    assert bool(taken) != bool(refused)
    assert refused.isprintable()
    assert len({claim.claim for claim in taken}) == len(taken)
