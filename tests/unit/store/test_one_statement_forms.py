"""A statement that waited for a lock decides nothing from what it saw before the wait."""

from __future__ import annotations

import itertools
import re
import sqlite3
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import CheckConstraint

from tests.statements import compose_anew
from workflow_engine.events import EventType
from workflow_engine.lifecycle import RunMove, RunStatus, StageMove, StageStatus
from workflow_engine.store.moves import postgres as moves_postgres
from workflow_engine.store.records import AttemptOutcome, Claim, ClaimKind
from workflow_engine.store.schema.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

STATEMENTS = {"claim": moves_postgres._CLAIM.text, "complete": moves_postgres._COMPLETE.text}
UPDATE = re.compile(r"UPDATE (\w+) (\w+)\s+SET (.*?)\n\s+FROM ", re.DOTALL)
#: Sub-selects that read what cannot change: the run that a stage run belongs to, and the outputs of groups that ended.
SUB_SELECTS = {"claim": ["(SELECT run_id FROM workflow_stages", "(SELECT json_agg("], "complete": []}


def split(assignments: str) -> dict[str, str]:
    """Return the expression of each column of a SET list."""
    depth, parts = 0, [""]
    for character in assignments:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    pairs = (part.split("=", 1) for part in parts)
    return {column.strip(): expression.strip() for column, expression in pairs}


def find_problems(statement: str) -> list[str]:
    """Return what of the updates' new rows a constraint would check on a mixture of two versions."""
    found = []
    for name, alias, assignments in UPDATE.findall(statement):
        expressions = split(assignments)
        from_alias = {column for column, text in expressions.items() if re.search(rf"\b{alias}\.", text)}
        if name == "workflow_runs" and from_alias:
            found.append(f"{name}: {sorted(from_alias)} are taken from {alias}")
        for check in metadata.tables[name].constraints:
            if isinstance(check, CheckConstraint):
                found += find_mixtures(name, str(check.sqltext), expressions, from_alias)
    return found


def find_mixtures(table: str, check: str, expressions: dict[str, str], from_alias: set[str]) -> Iterator[str]:
    columns = [column.name for column in metadata.tables[table].columns if re.search(rf"\b{column.name}\b", check)]
    if not expressions.keys() & set(columns):
        return
    if from_alias & set(columns):
        yield f"{table}: {check}: {sorted(from_alias & set(columns))} are of the version before the wait"
    unset = [column for column in columns if column not in expressions]
    if unset and not holds_whatever(check, {column: values_of(column, expressions.get(column)) for column in columns}):
        yield f"{table}: {check}: {unset} are of the version before the wait"


def values_of(column: str, expression: str | None) -> list[str | None]:
    """Return what the expression may be, as far as constraints tell values apart; None: what the old row holds."""
    if expression is not None and (constant := re.fullmatch(r"'(\w+)'", expression)):
        return [constant[1]]
    if expression == "NULL":
        return [None]
    if column == "status":
        return [status.value for status in StageStatus]
    return ["x"] if expression is not None and re.match(r"[:\w.]+$", expression) else [None, "x"]


def holds_whatever(check: str, values: dict[str, list[str | None]]) -> bool:
    connection = sqlite3.connect(":memory:")
    query = f"SELECT {check} FROM (SELECT {', '.join(f'? AS {column}' for column in values)})"
    results = [connection.execute(query, row).fetchone()[0] for row in itertools.product(*values.values())]
    connection.close()
    return all(result != 0 for result in results)


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_constraint_is_checked_on_a_mixture_of_a_row_before_and_after_the_wait(name: str) -> None:
    assert UPDATE.findall(STATEMENTS[name])
    assert find_problems(STATEMENTS[name]) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("complete", ", error_code = locked_run.error_code", ""),
        ("complete", "ELSE locked_run.output_group", "ELSE run_row.output_group"),
        ("complete", "ELSE locked_run.status", "ELSE run_row.status"),
        ("complete", "completed_at = clock.now", "polls = stage_row.polls"),
        ("claim", "coalesce(locked_run.started_at", "coalesce(run_row.started_at"),
        ("claim", "lease_until = clock.now + :lease_ms, ", ""),
    ],
)
def test_such_a_mixture_is_found(name: str, old: str, new: str) -> None:
    assert old in STATEMENTS[name]
    assert find_problems(STATEMENTS[name].replace(old, new))


@pytest.mark.parametrize("name", STATEMENTS)
def test_other_tables_are_asked_only_for_what_does_not_change_during_the_wait(name: str) -> None:
    found = re.findall(r"(?:EXISTS )?\(SELECT.*", STATEMENTS[name])
    ctes = [text for text in found if text.startswith("(SELECT workflow_now()")]

    asked = [text for text in found if text not in ctes]

    assert len(asked) == len(SUB_SELECTS[name])
    assert all(text.startswith(known) for text, known in zip(asked, SUB_SELECTS[name], strict=True))


def test_the_pause_is_asked_after_the_lock() -> None:
    assert "FROM locked_run WHERE NOT workflow_is_paused(locked_run.workflow_id)" in STATEMENTS["claim"]


#: Of each statement: the arrows that it makes.
ARROWS = {
    "claim": [(StageMove, "CLAIM"), (RunMove, "START")],
    "complete": [(StageMove, "COMPLETE"), (RunMove, "COMPLETE")],
}
OF_ARROWS = [(form, table, arrow) for form, arrows in ARROWS.items() for table, arrow in arrows]


def compose_form(form: str) -> str:
    return str(getattr(compose_anew(), f"_{form.upper()}").text)


@pytest.mark.parametrize(("form", "table", "arrow"), OF_ARROWS)
def test_an_arrow_that_may_start_or_end_elsewhere_does_so_in_its_statement(
    form: str, table: type, arrow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = getattr(table, arrow)
    assert compose_form(form) == STATEMENTS[form]

    for source in move.sources:
        monkeypatch.setattr(table, arrow, replace(move, sources=move.sources - {source}))
        assert compose_form(form) != STATEMENTS[form]
    monkeypatch.setattr(table, arrow, replace(move, target=type(move.target)("CANCELLED")))
    assert compose_form(form) != STATEMENTS[form]


@pytest.mark.parametrize(("form", "table", "arrow"), OF_ARROWS)
def test_every_status_of_a_statement_is_that_of_an_arrow(
    form: str, table: type, arrow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlike = "FAILED"
    for owner, name in ARROWS[form]:
        move = getattr(owner, name)
        status = type(move.target)(unlike)
        monkeypatch.setattr(owner, name, replace(move, sources=frozenset({status}), target=status))

    statement = compose_form(form)

    targets = re.findall(
        rf"UPDATE workflow_{'stages' if table is StageMove else 'runs'} .*?\n\s+FROM ", statement, re.DOTALL
    )
    assert len(targets) == 1
    assert set(re.findall(r"(?:SET | )status = (?:CASE WHEN completes THEN )?'(\w+)'", targets[0])) == {unlike}


def test_every_word_that_a_statement_writes_is_one_of_the_engine() -> None:
    known = {word.value for words in (StageStatus, RunStatus, ClaimKind, AttemptOutcome, EventType) for word in words}

    written = {word for statement in STATEMENTS.values() for word in re.findall(r"'([A-Za-z][\w.]*)'", statement)}

    assert written <= known
    assert "EXECUTE" in written


def test_a_claim_reads_its_own_fields_and_no_others() -> None:
    columns = STATEMENTS["claim"].rpartition(")\nSELECT ")[2]

    assert set(re.findall(r" AS (\w+)", columns)) == {field.name for field in fields(Claim)} - {"kind"}
