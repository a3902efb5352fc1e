"""The Celery app of the campaign's workers and beats; ``FAULTS_ABLATION`` names a safeguard to go without."""

from __future__ import annotations

import os

from tests.faults.ablations import ABLATIONS
from tests.faults.load import workflows
from workflow_engine.definition.workflows.registry import as_registry
from workflow_engine.settings import Settings
from workflow_engine.worker.app import create_app
from workflow_engine.worker.loading import install_workflows

if "FAULTS_ABLATION" in os.environ:
    ABLATIONS[os.environ["FAULTS_ABLATION"]]()

settings = Settings.load()
app = create_app(settings)
install_workflows(app, settings, as_registry(workflows))
