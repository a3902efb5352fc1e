"""A unit test of a body that reads outputs of other stages and logs; pytest runs it."""

from pydantic import BaseModel

from workflow_engine import NoInput, StageContext, WorkflowBuilder, stage
from workflow_engine.testing import stage_context


class Invoice(BaseModel):
    lines: list[int]


class Terms(BaseModel):
    vat: float = 0.2
    currency: str = "EUR"


@stage
def add(ctx: StageContext[Invoice]) -> int:
    return sum(ctx.input.lines)


@stage
def find_discount(ctx: StageContext[Invoice]) -> int:
    return 10 if len(ctx.input.lines) > 2 else 0


@stage(dependencies=[add, find_discount])
def total(ctx: StageContext[NoInput, Terms]) -> str:
    net = ctx.require(add) - ctx.require(find_discount)
    ctx.log.info("added", net=net)
    return f"{net * (1 + ctx.config.vat):.2f} {ctx.config.currency}"


invoices = WorkflowBuilder("invoices", input=Invoice).parallel(add, find_discount).pipe(total).build()


def test_the_total_has_the_discount_and_the_tax() -> None:
    ctx = stage_context(stage=total, outputs={add: 110, find_discount: 10}, config={"vat": 0.1})

    assert total(ctx) == "110.00 EUR"
    assert ctx.recorded.logs == [("info", "added", {"net": 100})]
