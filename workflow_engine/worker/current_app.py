"""Imported by ``celery worker`` and ``celery beat`` without ``-A``: installs the environment's workflows there."""

from __future__ import annotations

from typing import Any

from celery import current_app

from workflow_engine.worker.loading import install_from_environment

_proxy: Any = current_app
install_from_environment(_proxy._get_current_object())  # noqa: SLF001 - Celery's own way past its proxy
