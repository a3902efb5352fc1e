"""Configuration: every knob, its unit and its default, read from ``WORKFLOW_ENGINE_*`` or given as arguments."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from workflow_engine.errors import ConfigurationError
from workflow_engine.lifecycle import RunStatus
from workflow_engine.names import QUEUE_NAME, among
from workflow_engine.payloads.secrets import DEFAULT_WORDS, Redactor

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def _read_seconds(value: object) -> object:
    """Read ``30`` from the environment as seconds; everything else is pydantic's to read."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _read_key(value: object) -> object:
    """Read an empty key as none: with it everybody could sign."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return None if isinstance(text, str) and not text.strip() else value


#: In the environment: ISO 8601 (``PT30S``) or seconds (``30``).
Duration = Annotated[timedelta, BeforeValidator(_read_seconds)]
Positive = Annotated[Duration, Field(gt=timedelta(0))]


class EnvironmentSettings(BaseSettings):
    """Base of settings: arguments win over ``WORKFLOW_ENGINE_*`` in the environment, those over the defaults.

    Durations in the environment are ISO 8601 (``PT30S``) or seconds (``30``).
    """

    model_config = SettingsConfigDict(env_prefix="WORKFLOW_ENGINE_", extra="forbid", frozen=True)

    #: The noun for the values of the class in errors.
    kind: ClassVar[str] = "settings"

    @classmethod
    def load(cls, **values: Any) -> Self:
        """Build settings from arguments (None means not given), the environment and defaults.

        Raises:
            ConfigurationError: A value does not fit; the message names the setting, not its value.
        """
        try:
            return cls(**{name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            problems = [_describe(detail, cls) for detail in error.errors(include_input=False)]
            raise ConfigurationError(f"Invalid {cls.kind}: " + "; ".join(problems)) from None


class Settings(EnvironmentSettings):
    """Settings of the library, the same for every process that opens the database."""

    #: SQLAlchemy URL of the authority. PostgreSQL in production, SQLite for one host.
    database_url: str = "sqlite:///workflow_engine.db"
    #: Celery broker; ``memory://`` for the embedded mode (one process).
    broker_url: str = "memory://"
    #: Queue (and prefix of the companion queues) that stages go to unless they name another. Apps that share a database
    #: need one each.
    queue: str = Field(default="workflow", pattern=f"^{QUEUE_NAME}$")

    #: How long a worker may be silent before its stages are given to others. Heartbeats come three times as often.
    lease: Positive = timedelta(seconds=30)
    #: How often beat triggers the sweep.
    sweep_interval: Positive = timedelta(seconds=5)
    #: A dispatched message counts as lost when messages sent this much later were delivered before it.
    dispatch_slack: Positive = timedelta(seconds=10)
    #: Rows that one sweep step handles at most per pass.
    sweep_batch: int = Field(default=500, ge=1, le=10_000)
    #: How long a stage run may be given back by workers whose workflow lacks its stage before it fails with
    #: DEFINITION_MISMATCH.
    definition_grace: Duration = timedelta(minutes=10)
    #: The same for workers that lack the workflow, or a release that understands its plan: it is another app's, perhaps.
    unknown_workflow_grace: Duration = timedelta(hours=24)

    #: Wait between polls where neither the suspension nor the stage names one.
    poll_interval: Positive = timedelta(seconds=30)
    #: Shortest wait between two polls of a stage run; shorter requests are lengthened to it.
    min_poll_interval: Positive = timedelta(milliseconds=100)
    #: Longest suspension where the stage names none.
    max_wait: Positive = timedelta(hours=24)
    #: How long the last poll of a suspension past its ``max_wait`` may wait for a worker before the stage fails.
    final_poll_grace: Positive = timedelta(hours=24)

    #: Largest input, output, state or artifact, in bytes of JSON.
    max_payload_bytes: int = Field(default=16 * 2**20, ge=1024)
    #: Largest run metadata, in bytes of JSON.
    max_metadata_bytes: int = Field(default=2**20, ge=1024)
    #: Log lines kept for one attempt; later lines are counted and dropped.
    max_log_lines: int = Field(default=10_000, ge=0)
    #: Parts of names whose values are replaced in logs, events, errors and on screens, whatever their case.
    redact_keys: tuple[str, ...] = DEFAULT_WORDS
    #: Signs the tokens of ``runtime.callback_token``; unset or empty means that no token can be made or accepted.
    signing_key: Annotated[SecretStr | None, BeforeValidator(_read_key)] = None

    #: Delete ended runs this long after their end, a few with every sweep; unset keeps them for ever.
    retention: Positive | None = None
    #: Which ended runs ``retention`` deletes.
    retention_statuses: tuple[RunStatus, ...] = (RunStatus.COMPLETED, RunStatus.CANCELLED)

    #: Bring a SQLite schema up to date at start. PostgreSQL is only migrated by ``workflow-engine db upgrade``.
    auto_upgrade_sqlite: bool = True
    #: Connections a process keeps open to PostgreSQL; it opens up to twenty more while it needs them.
    pool_size: int = Field(default=5, ge=1)

    @cached_property
    def redactor(self) -> Redactor:
        """Hides the values whose names ``redact_keys`` lists."""
        return Redactor(self.redact_keys)


def _describe(detail: ErrorDetails, source: type[EnvironmentSettings]) -> str:
    name = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        return f"{name}: there is no such setting" + among(name, source.model_fields, kind=source.kind)
    return f"{name}: {detail['msg']}"
