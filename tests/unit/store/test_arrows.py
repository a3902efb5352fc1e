"""Every arrow of the tables of moves has one function, and its first sentence says where it leads from and to."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING

import pytest

from workflow_engine.lifecycle import RUN_MOVES, STAGE_MOVES, Move, RunStatus, StageStatus
from workflow_engine.store.moves import run_moves, stage_moves

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

TABLES = {"RunMove": (run_moves, RUN_MOVES), "StageMove": (stage_moves, STAGE_MOVES)}
ARROWS = [(module, move) for module, moves in TABLES.values() for move in moves]
#: A function that makes two moves, and one that makes none that its name promises.
PLANTED = """
def complete(run, stage):
    _move(run, StageMove.COMPLETE, stage)
    _move(run, StageMove.CANCEL, stage)

def cancel(run, stage):
    _move(run, stage)
"""


def moves_of(tree: ast.Module, table: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every public function with the moves that it names."""
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
            yield (
                function.name,
                [
                    node.attr
                    for node in ast.walk(function)
                    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == table
                ],
            )


@pytest.mark.parametrize("table", TABLES)
def test_every_arrow_has_exactly_one_function_and_every_function_exactly_one_arrow(table: str) -> None:
    module, moves = TABLES[table]

    functions = dict(moves_of(ast.parse(inspect.getsource(module)), table))

    assert functions == {move.name: [move.name.upper()] for move in moves}


def test_a_function_of_two_arrows_and_one_of_none_are_found() -> None:
    assert dict(moves_of(ast.parse(PLANTED), "StageMove")) == {"complete": ["COMPLETE", "CANCEL"], "cancel": []}


@pytest.mark.parametrize(("module", "move"), ARROWS, ids=lambda value: getattr(value, "name", None))
def test_the_contract_of_an_arrow_is_what_the_table_says(
    module: ModuleType, move: Move[RunStatus] | Move[StageStatus]
) -> None:
    contract = inspect.getdoc(getattr(module, move.name)) or ""

    path, _, when = contract.partition(": ")
    sources, _, target = path.partition(" -> ")
    assert set(sources.split(" | ")) == {source.value for source in move.sources}
    assert target == move.target.value
    assert when
