"""The tables of moves: what they allow, and what no move may break."""

from __future__ import annotations

import pytest

from workflow_engine.events import EventType
from workflow_engine.lifecycle import (
    ACTIVE_STAGE,
    LIVE_RUN,
    RUN_MOVES,
    STAGE_MOVES,
    TERMINAL_RUN,
    Move,
    RunMove,
    RunStatus,
    StageMove,
    StageStatus,
)


def reachable(start: str, moves: tuple[Move[RunStatus], ...] | tuple[Move[StageStatus], ...]) -> set[str]:
    seen, frontier = {start}, [start]
    while frontier:
        status = frontier.pop()
        targets = {str(move.target) for move in moves if status in move.sources} - seen
        seen |= targets
        frontier.extend(targets)
    return seen


def arrows(moves: tuple[Move[RunStatus], ...] | tuple[Move[StageStatus], ...]) -> set[str]:
    return {f"{source} {move.name} {move.target}" for move in moves for source in move.sources}


def test_the_moves_of_a_run_are_those_of_the_design() -> None:
    assert arrows(RUN_MOVES) == {
        "PENDING start RUNNING",
        "RUNNING complete COMPLETED",
        "PENDING fail FAILED",
        "RUNNING fail FAILED",
        "PENDING cancel CANCELLED",
        "RUNNING cancel CANCELLED",
        "COMPLETED rerun RUNNING",
        "FAILED rerun RUNNING",
        "CANCELLED rerun RUNNING",
    }


def test_the_moves_of_a_stage_run_are_those_of_the_design() -> None:
    assert arrows(STAGE_MOVES) == {
        "PENDING claim RUNNING",
        "RUNNING complete COMPLETED",
        "SUSPENDED complete COMPLETED",
        "RUNNING suspend SUSPENDED",
        "SUSPENDED claim_poll SUSPENDED",
        "SUSPENDED not_ready SUSPENDED",
        "RUNNING retry PENDING",
        "RUNNING release PENDING",
        "SUSPENDED release_poll SUSPENDED",
        "RUNNING reap PENDING",
        "SUSPENDED reap_poll SUSPENDED",
        "PENDING fail FAILED",
        "RUNNING fail FAILED",
        "SUSPENDED fail FAILED",
        "RUNNING skip SKIPPED",
        "PENDING cancel CANCELLED",
        "RUNNING cancel CANCELLED",
        "SUSPENDED cancel CANCELLED",
    }


def test_nothing_leaves_a_terminal_stage_run() -> None:
    assert all(move.sources <= ACTIVE_STAGE for move in STAGE_MOVES)


def test_only_a_rerun_leaves_a_terminal_run() -> None:
    assert {move.name for move in RUN_MOVES if move.sources & TERMINAL_RUN} == {"rerun"}


def test_every_stored_status_of_a_run_can_be_reached() -> None:
    assert reachable("PENDING", RUN_MOVES) == set(RunStatus) - {RunStatus.SUSPENDED}


def test_every_status_of_a_stage_run_can_be_reached() -> None:
    assert reachable("PENDING", STAGE_MOVES) == set(StageStatus)


@pytest.mark.parametrize("status", sorted(LIVE_RUN))
def test_every_live_run_can_end(status: RunStatus) -> None:
    assert reachable(status, RUN_MOVES) >= TERMINAL_RUN


@pytest.mark.parametrize("status", sorted(ACTIVE_STAGE))
def test_every_active_stage_run_can_end(status: StageStatus) -> None:
    assert {StageStatus.FAILED, StageStatus.CANCELLED} <= reachable(status, STAGE_MOVES)


def test_terminal_and_live_are_told_apart() -> None:
    assert {status for status in RunStatus if status.is_terminal} == {"COMPLETED", "FAILED", "CANCELLED"}
    assert {status for status in StageStatus if status.is_terminal} == {"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"}


def test_the_tables_hold_every_move_once() -> None:
    assert len(RUN_MOVES) == len({move.name for move in RUN_MOVES}) == 5
    assert len(STAGE_MOVES) == len({move.name for move in STAGE_MOVES}) == 13
    assert RunMove.START in RUN_MOVES
    assert StageMove.REAP in STAGE_MOVES


def test_every_move_says_what_it_means() -> None:
    assert all(move.meaning for move in (*RUN_MOVES, *STAGE_MOVES))


def test_each_end_of_a_run_has_its_event() -> None:
    assert {EventType(f"run.{status.lower()}") for status in TERMINAL_RUN} <= set(EventType)
    assert {EventType(f"stage.{status.lower()}") for status in StageStatus if status.is_terminal} <= set(EventType)
