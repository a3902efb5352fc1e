"""What ``celery worker`` and ``celery beat`` find when they are started here without ``-A``.

``WORKFLOW_ENGINE_WORKFLOWS``, ``WORKFLOW_ENGINE_BROKER_URL`` and ``WORKFLOW_ENGINE_DATABASE_URL`` say what to run
and where; see ``workflow_engine.worker.standalone`` for an app with a name.
"""

from __future__ import annotations

from workflow_engine.settings import Settings
from workflow_engine.worker.app import own_configuration

globals().update(own_configuration(Settings.load()))
imports = ["workflow_engine.worker.current_app"]
