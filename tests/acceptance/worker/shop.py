"""A Celery app that a team had before; the engine is installed into it."""

from __future__ import annotations

import os
from pathlib import Path

import pipelines
from celery import Celery

from workflow_engine.definition.workflows.registry import as_registry
from workflow_engine.settings import Settings
from workflow_engine.worker.loading import install_workflows

app = Celery("shop", broker=os.environ["WORKFLOW_ENGINE_BROKER_URL"])
app.conf.task_default_queue = "orders"
install_workflows(app, Settings.load(), as_registry(pipelines.workflows))


@app.task
def note_sale(path: str) -> None:
    Path(path).write_text("sold", encoding="utf-8")
