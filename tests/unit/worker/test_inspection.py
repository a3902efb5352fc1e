"""Hazards that the doctor finds in an app's configuration."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from workflow_engine.worker.broker_probe import find_content_hazards, find_url_hazards


def build_app(**configuration: Any) -> Celery:
    app = Celery("shop", set_as_current=False)
    app.conf.update(configuration)
    return app


@pytest.mark.parametrize("content", ["pickle", "yaml"])
def test_content_that_executes_code_is_a_hazard(content: str) -> None:
    hazards = find_content_hazards(build_app(accept_content=["json", content]))

    assert hazards == [f"accept_content has {content}: whoever can write to the broker runs code here"]


def test_json_alone_is_no_hazard() -> None:
    assert find_content_hazards(build_app(accept_content=["json"])) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://redis.example/0", ["without a password", "not encrypted"]),
        ("redis://:secret@redis.example/0", ["not encrypted"]),
        ("rediss://redis.example/0", ["without a password"]),
        ("rediss://:secret@redis.example/0", []),
        ("redis://:secret@redis/0", []),
        ("redis://:secret@redis.shop.svc.cluster.local/0", []),
        ("redis://:secret@10.0.0.7/0", []),
        ("redis://:secret@8.8.8.8/0", ["not encrypted"]),
        ("redis://redis/0", ["without a password"]),
        ("redis://localhost/0", []),
        ("redis://127.0.0.1:6379/0", []),
        ("amqp://shop:secret@rabbit.example//", ["not encrypted"]),
        ("amqps://shop:secret@rabbit.example//", []),
        ("amqps://rabbit.example//", ["default password"]),
        ("pyamqp://guest:guest@rabbit//", ["default password"]),
        ("amqp://shop:secret@rabbit//", []),
        ("amqp://guest:guest@localhost//", []),
        ("memory://", []),
    ],
)
def test_a_broker_elsewhere_wants_a_password_and_over_public_networks_encryption(url: str, words: list[str]) -> None:
    hazards = find_url_hazards(build_app(broker_url=url))

    assert len(hazards) == len(words)
    assert all(word in hazard for word, hazard in zip(words, hazards, strict=True))
    assert "secret" not in " ".join(hazards)


def test_encryption_may_be_configured_beside_the_url() -> None:
    app = build_app(broker_url="redis://:secret@redis.example/0", broker_use_ssl={"ssl_cert_reqs": "required"})

    assert find_url_hazards(app) == []
