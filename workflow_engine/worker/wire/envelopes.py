"""Is this entry of a Redis list a message that kombu can handle?

One that it cannot handle ends the worker's main process, or, put back at shutdown, every worker that ever meets it.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any


def find_entry_problem(entry: bytes | str) -> str | None:
    """Return why the entry is no JSON object, or None if it is one."""
    try:
        message = json.loads(entry)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({type(error).__name__})"
    return None if isinstance(message, dict) else f"a JSON {type(message).__name__} instead of an object"


def find_envelope_problem(message: Any) -> str | None:
    """Return why kombu would fail on the message, or None."""
    if not isinstance(message, dict):
        return f"a {type(message).__name__} instead of an object"
    return _find_properties_problem(message) or _find_headers_problem(message) or _find_body_problem(message)


def _find_properties_problem(message: dict[str, Any]) -> str | None:
    properties = message.get("properties")
    if not isinstance(properties, dict):
        return "properties are missing"
    if not isinstance(properties.get("delivery_tag"), str):
        return "the delivery tag is missing"
    delivery = properties.get("delivery_info")
    if not isinstance(delivery, dict) or not all(
        isinstance(delivery.get(key), str) for key in ("exchange", "routing_key")
    ):
        return "the delivery info is missing"
    return None


def _find_headers_problem(message: dict[str, Any]) -> str | None:
    headers = message.get("headers")
    if not isinstance(headers, dict):
        return "headers are missing"
    if "task" in headers and not (isinstance(headers["task"], str) and isinstance(headers.get("id"), str)):
        return "the headers name no task"
    return None


def _find_body_problem(message: dict[str, Any]) -> str | None:
    body, encoding = message.get("body"), message["properties"].get("body_encoding")
    if not isinstance(body, str):
        return "the body is no text"
    if encoding not in (None, "base64"):
        return "the body's encoding is unknown"
    if encoding == "base64":
        try:
            base64.b64decode(body)
        except (binascii.Error, ValueError):
            return "the body is not base64"
    return None
