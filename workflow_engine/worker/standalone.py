"""A Celery app for ``celery -A workflow_engine.worker.standalone worker`` and ``… beat``; made of the environment alone.

``WORKFLOW_ENGINE_WORKFLOWS`` names the workflows or the runtime, ``WORKFLOW_ENGINE_BROKER_URL`` and
``WORKFLOW_ENGINE_DATABASE_URL`` where to work.
"""

from __future__ import annotations

from workflow_engine.settings import Settings
from workflow_engine.worker.loading import make_app

app = make_app(Settings.load())
