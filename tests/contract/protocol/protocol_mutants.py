"""The engine with one safeguard taken out: each is a bug that somebody made somewhere, or could."""

from __future__ import annotations

import importlib
import itertools
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import protocol_steps
import sqlalchemy as sa

from workflow_engine.engine.transitions.unit_of_work import with_run, with_stage_run
from workflow_engine.lifecycle import StageStatus
from workflow_engine.store.moves import changes, stage_moves
from workflow_engine.store.moves.attempts import close_attempt
from workflow_engine.store.moves.locked_run import LockedRun
from workflow_engine.store.records import AttemptOutcome, ClaimKind
from workflow_engine.store.schema.tables import ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LIVE = (StageStatus.RUNNING, StageStatus.SUSPENDED)


#: The modules that settle a run's group.
SETTLERS = (
    "transitions.group_progress", "transitions.finish", "transitions.release", "commands.answer_callback", "upkeep.reap"
)  # fmt: skip


def _module(name: str) -> Any:
    # Attributes of the package are the commands of the same names.
    return importlib.import_module(f"workflow_engine.{name}")


def _nothing(*_arguments: Any, **_options: Any) -> None:
    """Do nothing."""


@contextmanager
def a_result_needs_no_fence() -> Iterator[None]:
    def is_ours(run: Any, stage: Any, _claim: Any) -> bool:
        return stage.status in _LIVE and stage.lease_id is not None and stage.is_live and run.is_live

    with patch.object(_module("engine.transitions.finish"), "_is_ours", is_ours):
        yield


@contextmanager
def a_poll_may_end_what_was_cancelled() -> Iterator[None]:
    is_ours = _module("engine.transitions.finish")._is_ours

    def mutant(run: Any, stage: Any, claim: Any) -> bool:
        return claim.kind is ClaimKind.POLL or is_ours(run, stage, claim)

    with patch.object(_module("engine.transitions.finish"), "_is_ours", mutant):
        yield


@contextmanager
def a_group_with_a_failed_member_advances() -> Iterator[None]:
    settle = _module("engine.transitions.group_progress").settle

    def mutant(run: Any, settings: Any) -> None:
        with patch.object(LockedRun, "failed", property(lambda _: 0)):
            settle(run, settings)

    with ExitStack() as stack:
        for name in SETTLERS:
            stack.enter_context(patch.object(_module(f"engine.{name}"), "settle", mutant))
        yield


@contextmanager
def a_member_that_waits_for_its_retry_has_ended() -> Iterator[None]:
    retry = stage_moves.retry

    def mutant(run: Any, *rest: Any, **options: Any) -> None:
        retry(run, *rest, **options)
        run.change(remaining=run.row.remaining - 1)

    with patch.object(stage_moves, "retry", mutant):
        yield


@contextmanager
def siblings_of_a_failed_stage_go_on() -> Iterator[None]:
    with patch.object(_module("engine.transitions.group_progress"), "_end_siblings", _nothing):
        yield


@contextmanager
def a_claim_takes_what_is_history() -> Iterator[None]:
    def mutant(_tx: Any, _run: Any, stage: Any) -> bool:
        return bool(stage.status is not StageStatus.RUNNING and stage.lease_id is None)

    with patch.object(_module("store.moves.claims"), "_may_be_claimed", mutant):
        yield


@contextmanager
def a_claim_ignores_that_the_run_is_paused() -> Iterator[None]:
    may_be_claimed = _module("store.moves.claims")._may_be_claimed

    def mutant(tx: Any, run: Any, stage: Any) -> bool:
        run.admits = True
        return bool(may_be_claimed(tx, run, stage))

    with patch.object(_module("store.moves.claims"), "_may_be_claimed", mutant):
        yield


@contextmanager
def a_repeated_claim_is_a_new_one() -> Iterator[None]:
    claims = _module("store.moves.claims")
    numbers = itertools.count()

    def mutant(database: Any, request: Any) -> Any:
        return database.transact(lambda tx: claims._claim(tx, replace(request, nonce=f"again-{next(numbers)}")))

    with patch.object(protocol_steps, "claim", mutant):
        yield


@contextmanager
def an_outcome_of_ones_own_counts_as_lost() -> Iterator[None]:
    with patch.object(_module("engine.transitions.finish"), "was_accepted", lambda *_: False):
        yield


@contextmanager
def attempts_are_counted_when_they_end() -> Iterator[None]:
    finish = _module("engine.transitions.finish")
    take, write = stage_moves.claim, finish._write

    def late(engine: Any, run: Any, stage: Any, *rest: Any) -> None:
        write(engine, run, replace(stage, attempt=stage.attempt + 1), *rest)

    def uncounted(run: Any, stage: Any, request: Any) -> None:
        take(run, replace(stage, attempt=stage.attempt - 1), request)

    with patch.object(stage_moves, "claim", uncounted), patch.object(finish, "_write", late):
        yield


@contextmanager
def a_reaper_acts_on_what_it_read_before() -> Iterator[None]:
    reap = _module("engine.upkeep.reap")

    def mutant(engine: Any, lease: Any, *, must_be_expired: bool) -> bool:
        def act(run: Any, stage: Any) -> bool:
            close_attempt(run, stage, AttemptOutcome.LOST)
            give_back = reap._return_poll if stage.status is StageStatus.SUSPENDED else reap._return_attempt
            give_back(engine, run, stage)
            return True

        return bool(with_stage_run(engine, lease.stage_run_id, act))

    with patch.object(reap, "_reap", mutant):
        yield


@contextmanager
def a_cancel_ends_the_run_only() -> Iterator[None]:
    with patch.object(_module("engine.commands.cancel_run"), "stage_moves", SimpleNamespace(cancel=_nothing)):
        yield


@contextmanager
def a_cancel_leaves_leases() -> Iterator[None]:
    def mutant(run: Any, stage: Any, why: Any) -> None:
        if stage.status is not StageStatus.RUNNING:
            stage_moves.cancel(run, stage, why)

    with patch.object(_module("engine.commands.cancel_run"), "stage_moves", SimpleNamespace(cancel=mutant)):
        yield


def _deaf(name: str) -> Callable[..., None]:
    original: Callable[..., None] = getattr(_module("engine.transitions.finish"), name)

    def mutant(*arguments: Any) -> None:
        heard = [replace(value, wake_sequence=0) if hasattr(value, "wake_sequence") else value for value in arguments]
        original(*heard)

    return mutant


@contextmanager
def a_wake_up_during_a_poll_is_forgotten() -> Iterator[None]:
    with patch.object(_module("engine.transitions.finish"), "_not_ready", _deaf("_not_ready")):
        yield


@contextmanager
def a_wake_up_before_the_suspension_is_forgotten() -> Iterator[None]:
    with patch.object(_module("engine.transitions.finish"), "_suspend", _deaf("_suspend")):
        yield


@contextmanager
def lost_messages_stay_lost() -> Iterator[None]:
    with patch.object(_module("store.upkeep.due"), "_is_lost", lambda *_, **__: sa.false()):
        yield


@contextmanager
def a_resumed_run_gets_no_messages() -> Iterator[None]:
    with patch.object(_module("engine.commands.pause_run"), "dispatch_what_is_due", _nothing):
        yield


@contextmanager
def the_next_group_starts_in_a_transaction_of_its_own() -> Iterator[None]:
    finish = _module("engine.transitions.finish").finish
    settle = _module("engine.transitions.group_progress").settle

    def mutant(engine: Any, claim: Any, *rest: Any, **options: Any) -> bool:
        with patch.object(_module("engine.transitions.finish"), "settle", _nothing):
            accepted = finish(engine, claim, *rest, **options)
        with_run(engine, claim.run_id, lambda run: settle(run, engine.settings))
        return bool(accepted)

    with (
        patch.object(protocol_steps, "finish", mutant),
        patch.object(_module("engine.execution.record_outcome"), "finish", mutant),
    ):
        yield


@contextmanager
def a_rerun_leaves_the_old_rows() -> Iterator[None]:
    with patch.object(changes, "supersede", _nothing):
        yield


@contextmanager
def the_grace_of_late_sweeps_renews_itself() -> Iterator[None]:
    begin_tick = _module("store.upkeep.overdue").begin_tick

    def mutant(tx: Any, name: str, **options: Any) -> int | None:
        tx.execute(sa.update(ticks).values(reap_after=0))
        taken: int | None = begin_tick(tx, name, **options)
        return taken

    with patch.object(_module("engine.upkeep.sweep"), "begin_tick", mutant):
        yield


@contextmanager
def a_worker_that_is_gone_costs_nothing() -> Iterator[None]:
    reap = _module("engine.upkeep.reap")
    give_back = reap._return_attempt

    def mutant(engine: Any, run: Any, stage: Any) -> None:
        give_back(engine, run, replace(stage, crashes=-1))

    with patch.object(reap, "_return_attempt", mutant):
        yield


MUTANTS = (
    a_result_needs_no_fence,
    a_poll_may_end_what_was_cancelled,
    a_group_with_a_failed_member_advances,
    a_member_that_waits_for_its_retry_has_ended,
    siblings_of_a_failed_stage_go_on,
    a_claim_takes_what_is_history,
    a_claim_ignores_that_the_run_is_paused,
    a_repeated_claim_is_a_new_one,
    an_outcome_of_ones_own_counts_as_lost,
    attempts_are_counted_when_they_end,
    a_reaper_acts_on_what_it_read_before,
    a_cancel_ends_the_run_only,
    a_cancel_leaves_leases,
    a_wake_up_during_a_poll_is_forgotten,
    a_wake_up_before_the_suspension_is_forgotten,
    lost_messages_stay_lost,
    a_resumed_run_gets_no_messages,
    the_next_group_starts_in_a_transaction_of_its_own,
    a_rerun_leaves_the_old_rows,
    the_grace_of_late_sweeps_renews_itself,
    a_worker_that_is_gone_costs_nothing,
)

#: Those that do no wrong, but leave runs unended.
STUCK = {lost_messages_stay_lost, the_grace_of_late_sweeps_renews_itself}
