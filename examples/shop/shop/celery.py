"""The shop's Celery app. The two lines at the end are what workflows add to it."""

from __future__ import annotations

import os

from celery import Celery

from shop.pipelines import fulfilment
from workflow_engine import WorkflowRuntime

app = Celery("shop", broker=os.environ.get("SHOP_BROKER_URL", "redis://127.0.0.1:6379/0"))


@app.task
def send_newsletter(address: str) -> str:
    """Do what the shop's tasks did all along, in the same workers."""
    return f"newsletter sent to {address}"


runtime = WorkflowRuntime(workflows=[fulfilment])
runtime.install(app)
