"""What happens to an order: check it, charge and reserve at once, wait for the carrier, confirm."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, Field

from workflow_engine import (
    GroupOutput,
    NoInput,
    Pending,
    PollContext,
    Retry,
    StageContext,
    Suspend,
    WorkflowBuilder,
    stage,
)


class Order(BaseModel):
    """What a customer bought."""

    number: str
    cents: int = Field(gt=0)
    items: list[str] = Field(min_length=1)


class Payment(BaseModel):
    """Money that was taken."""

    reference: str
    cents: int


class Reservation(BaseModel):
    """Goods that were put aside."""

    shelves: list[str]


class Parcel(BaseModel):
    """What the carrier was asked to fetch."""

    tracking_number: str


class Confirmation(BaseModel):
    """What the customer is told."""

    text: str


class ChargeConfig(BaseModel):
    """How a customer is charged."""

    currency: str = "EUR"


@stage
def check(ctx: StageContext[Order]) -> Order:
    """Look at the order before it costs anything."""
    ctx.log.info("order received", number=ctx.input.number, items=len(ctx.input.items))
    return ctx.input


@stage(retry=Retry(max_attempts=5, retry_on=(ConnectionError,)), timeout=timedelta(seconds=30))
def charge(ctx: StageContext[Order, ChargeConfig]) -> Payment:
    """Take the money; a payment provider would get ``ctx.idempotency_key``, so that a retry does not charge twice."""
    return Payment(reference=f"{ctx.config.currency}-{ctx.input.number}", cents=ctx.input.cents)


@stage
def reserve(ctx: StageContext[Order]) -> Reservation:
    """Put the goods aside."""
    return Reservation(shelves=[f"shelf-{sum(map(ord, item)) % 20}" for item in ctx.input.items])


def fetched(ctx: PollContext[Parcel]) -> Parcel | Pending:
    """Ask the carrier; this one comes at the second time of asking."""
    return ctx.state if ctx.polls >= 1 else Pending(next_poll_in=timedelta(milliseconds=200))


@stage(poll=fetched)
def ship(ctx: StageContext[GroupOutput]) -> Suspend[Parcel]:
    """Call the carrier and let go of the worker until it has come."""
    payment = ctx.input[charge]
    parcel = Parcel(tracking_number=f"T-{payment.reference}")
    return Suspend(parcel, poll_interval=timedelta(seconds=1), max_wait=timedelta(days=3))


@stage(dependencies=[charge, ship])
def confirm(ctx: StageContext[NoInput]) -> Confirmation:
    """Tell the customer."""
    payment, parcel = ctx.require(charge), ctx.require(ship)
    return Confirmation(text=f"{payment.cents / 100:.2f} paid, parcel {parcel.tracking_number} is on its way")


fulfilment = (
    WorkflowBuilder("order-fulfilment", name="Order fulfilment", input=Order)
    .pipe(check)
    .parallel(charge, reserve)
    .pipe(ship)
    .pipe(confirm)
    .build()
)
