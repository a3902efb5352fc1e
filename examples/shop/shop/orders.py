"""What a view, a script or another task calls when a customer pressed "buy"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shop.celery import runtime
from shop.pipelines import Confirmation, Order, fulfilment

if TYPE_CHECKING:
    from workflow_engine import RunHandle


def place_order(order: Order) -> RunHandle[Confirmation]:
    """Start the fulfilment of an order; the same order number never starts twice."""
    return runtime.create_run(
        fulfilment, order, priority=8, metadata={"order": order.number}, idempotency_key=f"order-{order.number}"
    )
