"""Recording an outcome by each means in turn: an error of the recorder is not an error of the body."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from workflow_engine.engine.decisions.failures import describe
from workflow_engine.engine.decisions.outcomes import Failed
from workflow_engine.engine.process.database_patience import ABSENCES
from workflow_engine.engine.transitions.finish import finish
from workflow_engine.errors import ErrorCode
from workflow_engine.store.connection.error_texts import loggable

if TYPE_CHECKING:
    from workflow_engine.engine.decisions.outcomes import Outcome
    from workflow_engine.engine.process.engine import Engine
    from workflow_engine.store.records import Claim, Report, StageFailure

logger = logging.getLogger("workflow_engine.engine")


def record_outcome(engine: Engine, claim: Claim, outcome: Outcome, report: Report) -> tuple[Outcome, bool]:
    """Record the outcome, and return the outcome that was recorded and whether it was accepted.

    An outcome that cannot be written is tried once more, statement by statement; then the stage fails with
    ``NOT_RECORDED``. Otherwise its lease would run out, and the same would happen again until ``WORKER_LOST`` hides the
    cause.

    Raises:
        DatabaseUnavailableError: The database went away; nothing, or everything, was recorded.
        DatabaseTimeoutError: It was too slow; nothing was recorded.
    """
    problem = Exception()
    for in_one_statement in (True, False):
        try:
            return outcome, finish(engine, claim, outcome, report, in_one_statement=in_one_statement)
        except ABSENCES:
            raise
        except Exception as error:  # noqa: BLE001 - the other form may be able to write it
            _log(error, claim)
            problem = error
    failed = Failed(_describe(engine, outcome, problem))
    try:
        return failed, finish(engine, claim, failed, report)
    except ABSENCES:
        raise
    except Exception as error:  # noqa: BLE001 - the texts of the report may be the cause; its numbers can be written
        _log(error, claim)
        numbers = replace(report, metrics=None, logs=(), annotations=())
        return failed, finish(engine, claim, failed, numbers)


def _log(error: Exception, claim: Claim) -> None:
    logger.error(
        "recording the outcome of stage %s of run %s failed", claim.stage_id, claim.run_id, exc_info=loggable(error)
    )


def _describe(engine: Engine, outcome: Outcome, problem: Exception) -> StageFailure:
    described = describe(problem, engine.redactor, ErrorCode.NOT_RECORDED)
    failure = getattr(outcome, "failure", None)
    ended = type(outcome).__name__.lower() + (f" with {failure.type}" if failure else "")
    return replace(described, message=f"The attempt ended ({ended}), which could not be recorded: {described.message}")
