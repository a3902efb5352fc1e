"""``celery -A app workflow …``: the same commands for the workflows that are installed in a Celery app.

Celery imports this module each time it starts; the commands themselves are imported when they are used.
"""

from __future__ import annotations

import click

from workflow_engine.cli.group import COMMANDS, CONTEXT_SETTINGS, LazyGroup

#: Commands that bring a Celery app of their own, or that Celery has itself.
_WITHOUT_APP = {"demo", "dev", "worker", "beat"}


@click.group(
    name="workflow",
    cls=LazyGroup,
    lazy={name: path for name, path in COMMANDS.items() if name not in _WITHOUT_APP},
    context_settings=CONTEXT_SETTINGS,
)
def workflow() -> None:
    """Durable workflows: look at runs and steer them."""
