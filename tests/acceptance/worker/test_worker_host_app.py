from __future__ import annotations

from pathlib import Path
from typing import Any


def test_a_worker_of_the_teams_app_runs_its_tasks_and_our_stages(world: Any, tmp_path: Path) -> None:
    world.start_worker(app="shop")
    sales = tmp_path / "sales"
    world.app.send_task("shop.note_sale", [str(sales)], queue="orders")

    run_id = world.create_run("arithmetic", number=1)

    world.wait_for(run_id)
    world.wait_until(sales.exists)
