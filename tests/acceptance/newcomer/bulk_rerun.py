"""A service is away for a while and many runs fail; when it is back, all of them are rerun from where they failed."""

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel

from workflow_engine import (
    Retry,
    RunStatus,
    StageContext,
    WorkflowBuilder,
    WorkflowEngineError,
    WorkflowRuntime,
    stage,
)


class Letter(BaseModel):
    number: int
    post_office: Path


@stage
def write(ctx: StageContext[Letter]) -> Letter:
    return ctx.input


@stage(retry=Retry(max_attempts=1))
def send(ctx: StageContext[Letter]) -> str:
    if not ctx.input.post_office.exists():
        raise ConnectionError("the post office is closed")
    return f"letter {ctx.input.number} is sent"


letters = WorkflowBuilder("letters", input=Letter).pipe(write).pipe(send).build()
workflows = [letters]


def main() -> None:
    with WorkflowRuntime(workflows) as runtime, TemporaryDirectory() as town:
        office = Path(town) / "post-office"
        runs = [runtime.create_run(letters, Letter(number=number, post_office=office)) for number in range(3)]
        for run in runs:
            try:
                run.wait(timeout=timedelta(minutes=2))
            except WorkflowEngineError as error:
                print(run.status.value, error)

        office.touch()
        planned = runtime.rerun_all(RunStatus.FAILED, workflow=letters, dry_run=True)
        done = runtime.rerun_all(RunStatus.FAILED, workflow=letters, idempotency_key="the post office is back")

        print(len(planned.run_ids), len(done.run_ids), dict(done.refused))
        for run in runs:
            print(run.wait(timeout=timedelta(minutes=2)), [one.stage_id for one in run.list_stages(history=True)])


if __name__ == "__main__":
    main()
