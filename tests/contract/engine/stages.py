"""Stages, workflows and looks at runs that the tests of the engine share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow_engine.definition import Pending, Suspend, WorkflowBuilder, define_async_batch_stage, define_stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow_engine.facade.run_handle import RunHandle
    from workflow_engine.testing.kit import WorkflowTester

    Start = Callable[..., WorkflowTester]


def step(name: str, body: Callable[..., Any] = lambda ctx: ctx.input, *, takes: Any = int, **options: Any) -> Any:
    """Return a stage that gives whatever ``body`` returns, by default its input."""
    return define_stage(id=name, execute=body, input=takes, output=Any, **options)


def polled(name: str = "waits", check: Callable[..., Any] = lambda _: Pending(), **options: Any) -> Any:
    """Return a stage that suspends with the state 7 (or as ``suspend`` or ``execute`` says) and is polled by ``check``."""
    suspend = options.pop("suspend", Suspend(7))
    execute = options.pop("execute", lambda _: suspend)
    return define_async_batch_stage(id=name, execute=execute, check=check, input=int, output=int, state=int, **options)


def chain(*stages: Any, name: str = "chain", **options: Any) -> Any:
    """Return the workflow of these stages, one after the other; those of a tuple are one parallel group."""
    builder: Any = WorkflowBuilder(name, input=int, **options)
    for one in stages:
        builder = builder.parallel(*one) if isinstance(one, tuple) else builder.pipe(one)
    return builder.build()


def begun(start: Start, *stages: Any, **settings: Any) -> tuple[WorkflowTester, RunHandle[Any]]:
    """Return a run of the chain of these stages, of which nothing was executed yet."""
    workflow = chain(*stages)
    tester = start(workflow, **settings)
    return tester, tester.create_run(workflow, 1)


def suspended(start: Start, *stages: Any, **settings: Any) -> tuple[WorkflowTester, RunHandle[Any]]:
    """Return a run of the chain of these stages after the messages of its first group were delivered."""
    tester, run = begun(start, *stages, **settings)
    for _ in list(tester.messages.waiting):
        tester.deliver()
    return tester, run


def stage_of(run: RunHandle[Any], name: str = "a") -> Any:
    """Return the stage run of that name."""
    return next(one for one in run.list_stages() if one.stage_id == name)
