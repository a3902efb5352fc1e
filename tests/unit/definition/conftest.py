"""A port that remembers what contexts ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from workflow_engine.definition import StageIdentity, StoredOutput
from workflow_engine.lifecycle import StageStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal


class RecordingPort:
    """Keeps everything in memory."""

    def __init__(self) -> None:
        self.outputs: dict[str, StoredOutput] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.artifacts: dict[tuple[bool, str], str] = {}
        self.cancelled = False

    def complete(self, stage_id: str, payload: str) -> None:
        self.outputs[stage_id] = StoredOutput(StageStatus.COMPLETED, payload)

    def output_of(self, stage_id: str) -> StoredOutput:
        return self.outputs.get(stage_id, StoredOutput(None, None))

    def write_log(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        self.calls.append((level, message, dict(fields)))

    def report_progress(self, fraction: float, message: str | None, details: Mapping[str, object]) -> None:
        self.calls.append((fraction, message, dict(details)))

    def is_cancelled(self) -> bool:
        return self.cancelled

    def annotate(self, key: str, value: object) -> None:
        self.calls.append((key, value))

    def report(self, cost: Decimal, tokens: int, metrics: Mapping[str, float]) -> None:
        self.calls.append((cost, tokens, dict(metrics)))

    def save_artifact(self, key: str, payload: str, *, shared: bool) -> None:
        self.artifacts[shared, key] = payload

    def load_artifact(self, key: str, *, shared: bool) -> str | None:
        return self.artifacts.get((shared, key))

    def delete_artifact(self, key: str, *, shared: bool) -> bool:
        return self.artifacts.pop((shared, key), None) is not None

    def list_artifacts(self, prefix: str, *, shared: bool) -> list[str]:
        return sorted(key for scope, key in self.artifacts if scope is shared and key.startswith(prefix))


@pytest.fixture
def port() -> RecordingPort:
    return RecordingPort()


@pytest.fixture
def identity() -> StageIdentity:
    return StageIdentity(
        run_id="run-1",
        workflow_id="analysis",
        stage_id="merge",
        stage_name="Merge",
        stage_run_id="stage-run-1",
        attempt=2,
        generation=1,
        fence=7,
        metadata={"user": "u-1"},
    )
