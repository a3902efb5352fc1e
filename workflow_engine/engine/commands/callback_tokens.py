"""Callback tokens: signed, expiring, each for one stage run, which a public endpoint completes or fails with it.

Format: ``<stage run id>.<expiry, seconds since the epoch>.<base64url HMAC-SHA256>``. The token names one stage run of
one generation; once that stage run has an outcome, the token changes nothing any more.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from workflow_engine.errors import ConfigurationError, InvalidRequestError

if TYPE_CHECKING:
    from datetime import timedelta

    from workflow_engine.engine.process.engine import Engine


def make_token(engine: Engine, stage_run_id: str, *, valid_for: timedelta) -> str:
    """Return a token for the stage run.

    Raises:
        ConfigurationError: No signing key is set.
    """
    expiry = int((engine.clock.now() + valid_for).timestamp())
    body = f"{stage_run_id}.{expiry}"
    return f"{body}.{_sign(engine, body)}"


def read_token(engine: Engine, token: str) -> str:
    """Return the id of the stage run that the token is for.

    Raises:
        InvalidRequestError: The token is malformed, forged or expired; the message does not say which part is wrong.
        ConfigurationError: No signing key is set.
    """
    body, _, signature = token.rpartition(".")
    stage_run_id, _, expiry = body.rpartition(".")
    is_genuine = hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), _sign(engine, body).encode())
    if not is_genuine or not expiry.isdecimal() or int(expiry) < engine.clock.now().timestamp():
        raise InvalidRequestError("The callback token is not valid, or not any more")
    return stage_run_id


def _sign(engine: Engine, body: str) -> str:
    key = engine.settings.signing_key
    if key is None:
        raise ConfigurationError("Callback tokens need a signing key: set WORKFLOW_ENGINE_SIGNING_KEY")
    digest = hmac.new(key.get_secret_value().encode(), body.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
