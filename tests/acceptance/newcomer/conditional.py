"""A stage that is skipped for some inputs; what comes later asks whether it has an output."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from workflow_engine import NoInput, StageContext, WorkflowBuilder, WorkflowRuntime, stage


class Order(BaseModel):
    cents: int


def is_small(ctx: StageContext[Order, Any]) -> bool:
    return ctx.input.cents < 10_000


@stage
def pay(ctx: StageContext[Order]) -> str:
    return f"{ctx.input.cents} paid"


@stage(skip_if=is_small)
def insure(ctx: StageContext[Order]) -> str:
    return "insured"


@stage(dependencies=[pay, insure])
def ship(ctx: StageContext[NoInput]) -> str:
    return f"{ctx.require(pay)}, {ctx.optional(insure) or 'not insured'}"


orders = WorkflowBuilder("orders", input=Order).parallel(pay, insure).pipe(ship).build()
workflows = [orders]


def main() -> None:
    with WorkflowRuntime(workflows) as runtime:
        for cents in (500, 50_000):
            run = runtime.create_run(orders, Order(cents=cents))
            print(run.wait(timeout=timedelta(minutes=2)))
            print([stage.status.value for stage in run.list_stages() if stage.stage_id == "insure"])


if __name__ == "__main__":
    main()
