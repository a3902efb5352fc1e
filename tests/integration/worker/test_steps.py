"""What a worker does when it starts."""

from __future__ import annotations

from workflow_engine.settings import Settings
from workflow_engine.testing.processes import free_port
from workflow_engine.worker.app import create_app
from workflow_engine.worker.steps import check_lists


def test_a_broker_that_is_down_does_not_keep_a_worker_from_starting() -> None:
    app = create_app(Settings.load(broker_url=f"redis://127.0.0.1:{free_port()}/0"))

    assert check_lists(app, ["workflow"]) is None
