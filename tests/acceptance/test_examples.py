"""examples/shop on real processes: a shop's Celery app that executes workflows beside its own tasks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples" / "shop"
PLACE_ORDER = """
from datetime import timedelta
from shop.celery import send_newsletter
from shop.orders import Order, place_order
order = Order(number="1", cents=1999, items=["lamp"])
send_newsletter.delay("somebody@shop.example")
first, again = place_order(order), place_order(order)
print(first.id == again.id)
print(first.wait(timeout=timedelta(seconds=60)).text)
"""


@pytest.fixture
def environment(tmp_path: Path, redis_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_ENGINE_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "160",
        "SHOP_BROKER_URL": redis_url,
        "WORKFLOW_ENGINE_DATABASE_URL": f"sqlite:///{tmp_path / 'shop.db'}",
    }


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """The shop's worker; yields its log."""
    log = tmp_path / "worker.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "shop.celery", "worker", "--concurrency", "2", "--loglevel", "info"],
            cwd=SHOP,
            env=environment,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield log
    finally:
        process.terminate()
        process.wait(timeout=60)


def run(*command: str, env: dict[str, str]) -> str:
    finished = subprocess.run(
        [sys.executable, *command], cwd=SHOP, env=env, capture_output=True, text=True, timeout=90, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_shop_fulfils_an_order_in_the_worker_of_its_own_tasks(environment: dict[str, str], worker: Path) -> None:
    printed = run("-c", PLACE_ORDER, env=environment)

    listed = run("-m", "celery", "-A", "shop.celery", "workflow", "runs", "list", env=environment)
    assert printed.splitlines() == ["True", "19.99 paid, parcel T-EUR-1 is on its way"]
    assert listed.count("order-fulfilment") == 1
    assert "COMPLETED" in listed
    assert "newsletter sent to somebody@shop.example" in worker.read_text()
