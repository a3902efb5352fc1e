"""Waiting until the stage's own poll says that the work is done."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from workflow_engine.clock import ms_to_instant
from workflow_engine.definition import Pending, PollContext, Suspend
from workflow_engine.definition.waits import Poll
from workflow_engine.engine.decisions.outcomes import Completed, NotReady, decide_pending
from workflow_engine.engine.waits.wait_kind import WaitKind
from workflow_engine.errors import DefinitionError, StageError

if TYPE_CHECKING:
    from workflow_engine.definition import Stage
    from workflow_engine.engine.data.stage_execution import StageExecution
    from workflow_engine.engine.process.engine import Engine


class PollKind(WaitKind[Poll]):
    """The stage's poll is called; it returns the output or ``Pending``."""

    wait = Poll

    @override
    def encode(self, engine: Engine, stage: Stage[Any, Any], wait: Poll) -> str:
        if stage.poll is None or stage.state is None:
            raise DefinitionError(
                f'Stage "{stage.id}" returned Suspend but has no poll to end it; '
                "pass poll=, a function of a PollContext"
            )
        return stage.state.store(wait.state, what=_state_of(stage), max_bytes=engine.settings.max_payload_bytes)

    @override
    def find_lack(self, stage: Stage[Any, Any]) -> str | None:
        return f'Stage "{stage.id}" is suspended but its definition has no poll' if stage.poll is None else None

    @override
    def decode(self, stage: Stage[Any, Any], state: str) -> Any:
        return None if stage.state is None else stage.state.decode(state, what=_state_of(stage))

    @override
    def ask(self, execution: StageExecution) -> Completed | NotReady:
        answer = self._call_poll(execution)
        if isinstance(answer, Pending):
            return self._read_pending(execution, answer)
        if isinstance(answer, Suspend):
            raise DefinitionError(
                f'The poll of stage "{execution.stage.id}" returned Suspend; it returns the output or Pending'
            )
        return Completed(execution.encode_output(answer))

    def _call_poll(self, execution: StageExecution) -> Any:
        claim, stage = execution.claim, execution.stage
        if stage.poll is None:
            raise StageError(self.find_lack(stage))
        context = PollContext(
            identity=execution.identity,
            state=self.decode(stage, claim.suspended_state or "null"),
            config=execution.config,
            suspended_at=ms_to_instant(claim.suspended_at or claim.claimed_at),
            polls=claim.polls - 1,
            stages=execution.workflow.stages,
            groups=execution.workflow.group_numbers,
            port=execution.port,
        )
        bodies = execution.engine.bodies
        return bodies.call(stage.poll, context, is_async=stage.poll_is_async, timeout=stage.poll_timeout)

    def _read_pending(self, execution: StageExecution, pending: Pending[Any]) -> NotReady:
        engine, stage = execution.engine, execution.stage
        if pending.metrics:
            execution.port.report(Decimal(0), 0, pending.metrics)
        if pending.progress is not None:
            execution.port.report_progress(pending.progress, pending.message, {})
        state = None if pending.state is None else self.encode(engine, stage, Poll(pending.state))
        return decide_pending(pending.next_poll_in, state, stage, execution.claim, engine.settings)


def _state_of(stage: Stage[Any, Any]) -> str:
    return f'suspended state of stage "{stage.id}"'
