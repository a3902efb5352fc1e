"""A body that logs or looks for a cancel does not notice that the database is away for a moment."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.engine.stages import chain, step
from workflow_engine.errors import DatabaseUnavailableError
from workflow_engine.store.reads.logs import list_logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


class Away:
    """A database that does not answer for a while."""

    def __init__(self, tester: WorkflowTester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_away = False
        for name in ("read", "transact"):
            monkeypatch.setattr(tester.database, name, self._guard(getattr(tester.database, name)))

    def _guard(self, method: Any) -> Any:
        def call(work: Any, **options: Any) -> Any:
            if self.is_away:
                raise DatabaseUnavailableError("away")
            return method(work, **options)

        return call


def test_a_short_outage_of_the_database_does_not_fail_bodies_that_log_or_look_for_a_cancel(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [f"line {number}" for number in range(700)]

    def body(ctx: Any) -> int:
        away.is_away = True
        for line in written[:450]:
            ctx.log.info(line)
        tester.clock.skew += timedelta(seconds=2)
        seen = ctx.cancelled
        ctx.progress(0.5)
        away.is_away = False
        for line in written[450:]:
            ctx.log.info(line)
        return int(seen)

    workflow = chain(step("a", body))
    tester = start(workflow)
    away = Away(tester, monkeypatch)
    run = tester.create_run(workflow, 1)

    assert tester.deliver().result == "completed"

    assert run.output() == 0
    lines = tester.database.read(lambda tx: list_logs(tx, run.id)).items
    assert sorted((line.line, line.message) for line in lines) == list(enumerate(written, start=1))
