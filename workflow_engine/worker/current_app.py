"""Imported by ``celery worker`` and ``celery beat`` without ``-A``: installs the environment's workflows there."""

from __future__ import annotations

from celery.app import app_or_default

from workflow_engine.worker.loading import install_from_environment

install_from_environment(app_or_default())
