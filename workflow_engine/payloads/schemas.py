"""Schemas: the border between Python values and the JSON text that is stored.

A value that passes is re-validated even when it is a model instance, and only accepted when it comes back from
its own JSON text as it was, so that a stage sees the same value in its first run, in a retry and in a rerun.
Fields are stored under their own names, never under aliases. Validators must therefore be idempotent.

Values are compared, never their dumps, because a dump shows only the result of a serializer. A type that loses
nothing (see ``lossy_types``) is not compared: Pydantic checks each value's type while it writes, and validates it while it reads.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticSerializationError

from workflow_engine.errors import DefinitionError, InvalidDataError, PayloadError
from workflow_engine.payloads.lossy_types import find_risks
from workflow_engine.payloads.round_trip_losses import find_loss, find_unserializable, take_apart
from workflow_engine.payloads.text import (
    TOO_DEEP,
    Unstorable,
    check_size,
    decode_json,
    describe_error,
    dump_escaped,
    is_too_deep,
    refusal,
)
from workflow_engine.payloads.unset_fields import MARK, drop_unset, mark_unset, restore_unset
from workflow_engine.payloads.validation_problems import format_location, hide_secrets, list_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class NoInput(BaseModel):
    """Input of a stage or workflow that needs none; a value that is given all the same is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class NoConfig(BaseModel):
    """Config of a stage that has none; any field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Schema(Generic[T]):
    """The validator of a type that Pydantic understands, compiled once, with its form as stored text.

    Args:
        tp: A model, dataclass, TypedDict, ``list[int]``, ``Report | None`` …

    Raises:
        DefinitionError: Pydantic cannot make a validator of the type, or no value of it could ever be read back.
    """

    __slots__ = ("_adapter", "_risks", "name", "type")

    #: The type that was given.
    type: Any
    #: The type's name for messages: ``Document``, ``list[int]``.
    name: str

    def __init__(self, tp: Any) -> None:
        self.type = tp
        self.name = describe_type(tp)
        self._adapter: TypeAdapter[T] = _build_adapter(tp, self.name)
        self._risks = find_risks(self._adapter.core_schema)
        unreadable = self._risks.unreadable
        if unreadable is not None:
            raise DefinitionError(f"{self.name} cannot be used as a schema: {unreadable.path} {unreadable.reason}")

    @classmethod
    def of(cls, tp: Any) -> Schema[Any]:
        """Return the schema of ``tp``."""
        return Schema(tp)

    def __repr__(self) -> str:
        return f"Schema({self.name})"

    def parse(self, value: object, *, what: str) -> T:
        """Validate a Python value; model instances are validated again, field by field.

        Raises:
            InvalidDataError: The value does not fit; each problem names its path.
            PayloadError: The value cannot be taken apart (it contains itself, or nests too deeply).
        """
        return self._revalidate(self._validate(value, what), what)

    def parse_fields(self, fields: object, *, what: str) -> T:
        """Validate plain values keyed by field names, never by aliases.

        Raises:
            InvalidDataError: The value does not fit; each problem names its path.
        """
        return self._validate(fields, what, by_name=True, by_alias=False)

    def encode(self, value: T, *, what: str, max_bytes: int | None = None) -> str:
        """Return the JSON text of a parsed value.

        Raises:
            InvalidDataError: The value was changed since it was parsed and does not fit any more.
            PayloadError: The text would not give the same value back (the message names the path), or is too large.
        """
        text = self._encode_quickly(value, what, max_bytes)
        if text is None:
            text = self._encode_carefully(value, what)
        check_size(text, what=what, max_bytes=max_bytes)
        return text

    def store(self, value: object, *, what: str, max_bytes: int | None = None) -> str:
        """Parse and encode: return the JSON text that every later reader gets the value from.

        Raises:
            InvalidDataError: The value does not fit; each problem names its path.
            PayloadError: It cannot be stored faithfully, or is too large.
        """
        return self.encode(self._validate(value, what), what=what, max_bytes=max_bytes)

    def decode(self, text: str, *, what: str) -> T:
        """Parse JSON text that ``encode`` wrote, or that another schema wrote and this one should accept.

        Raises:
            InvalidDataError: The text does not fit.
        """
        try:
            value = self._read(text)
        except ValidationError as error:
            raise InvalidDataError(what, list_problems(error, decode_json(text))) from None
        restore_unset(text, value)
        return value

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the stored form (field names, not aliases); ``{}`` where the type has none."""
        try:
            return self._adapter.json_schema(by_alias=False)
        except (PydanticInvalidForJsonSchema, PydanticUserError):
            return {}

    def to_plain(self, value: T, *, what: str) -> Any:
        """Return a parsed value as plain JSON that ``parse_fields`` takes.

        A field that was left to a default which does not fit its own type (``count: int = None``) is absent.

        Raises:
            InvalidDataError, PayloadError: As ``encode`` does.
        """
        plain = decode_json(self.encode(value, what=what))
        try:
            self._adapter.validate_python(plain, by_name=True, by_alias=False)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                _remove(plain, detail["loc"])
        return plain

    def _validate(self, value: object, what: str, *, by_name: bool | None = None, by_alias: bool | None = None) -> T:
        try:
            return self._adapter.validate_python(value, by_name=by_name, by_alias=by_alias)
        except ValidationError as error:
            raise InvalidDataError(what, list_problems(error, value)) from None

    def _revalidate(self, value: T, what: str) -> T:
        """Validate the parts of a value again, or its dump where a validator takes only the form that a serializer writes."""
        for all_fields in (True, False):
            try:
                parts = take_apart(value, all_fields=all_fields)
                return self._adapter.validate_python(parts, by_name=True, by_alias=False)
            except (ValidationError, RecursionError):
                continue
        again = self.parse_fields(_attempt(self._dump, value, what), what=what)
        loss = find_loss(value, again)
        if loss is not None:
            raise refusal(what, loss)
        return again

    def _encode_quickly(self, value: T, what: str, max_bytes: int | None) -> str | None:
        """Return None where the value needs a closer look: changed since it was parsed, or hard to keep."""
        may_lose = self._risks.may_lose
        try:
            text = self._write_plainly(value, check_types=not may_lose)
            check_size(text, what=what, max_bytes=max_bytes)
            text = self._mark(text, value)
            back = self._read_plainly(text)
        except PayloadError:
            raise
        except Exception:  # noqa: BLE001 - serializers and validators of users; the closer look reports them
            return None
        is_kept = not (may_lose and find_loss(value, back))
        return text if is_kept and not is_too_deep(text) else None

    def _encode_carefully(self, value: T, what: str) -> str:
        parsed = self._revalidate(value, what)
        text = self._mark(_attempt(self._write, parsed, what), value)
        if is_too_deep(text):
            raise refusal(what, find_unserializable(parsed) or Unstorable("", TOO_DEEP))
        try:
            back = self._read(text)
        except (ValidationError, PayloadError) as error:
            raise refusal(what, find_unserializable(parsed) or _describe_unreadable(error)) from None
        loss = find_loss(value, parsed, leaves=False) or find_loss(parsed, back)
        if loss is not None:
            raise refusal(what, loss)
        return text

    def _write(self, value: T) -> str:
        try:
            return self._write_plainly(value)
        except PydanticSerializationError:
            # pydantic-core refuses lone surrogates, the standard library does not.
            return dump_escaped(
                self._adapter.dump_python(value, mode="json", round_trip=True, by_alias=False, warnings=False)
            )

    def _write_plainly(self, value: T, *, check_types: bool = False, exclude_unset: bool = False) -> str:
        written = self._adapter.dump_json(
            value,
            round_trip=True,
            by_alias=False,
            ensure_ascii=True,
            exclude_unset=exclude_unset,
            warnings="error" if check_types else False,
        )
        return written.decode("ascii")

    def _mark(self, text: str, value: T) -> str:
        """Keep which fields were set, where the type can tell."""
        if not self._risks.has_defaults:
            return text
        with suppress(Exception):  # serializers of users: the closer look reports them
            if len(self._write_plainly(value, exclude_unset=True)) == len(text):
                return text
        try:
            return mark_unset(text, value)
        except PayloadError:
            return text  # numbers that cannot be read back; reading says so

    def _dump(self, value: T) -> Any:
        return self._adapter.dump_python(value, round_trip=True, by_alias=False, warnings=False)

    def _read(self, text: str) -> T:
        try:
            return self._read_plainly(text)
        except ValidationError as error:
            if error.errors(include_url=False)[0]["type"] != "json_invalid":
                raise
        # pydantic-core refuses lone surrogates, the standard library does not.
        return self._adapter.validate_python(decode_json(text), by_name=True, by_alias=False)

    def _read_plainly(self, text: str) -> T:
        try:
            return self._adapter.validate_json(text, by_name=True, by_alias=False)
        except ValidationError:
            value = self._read_defaults(text) if MARK in text else None
            if value is None:
                raise
            return value

    def _read_defaults(self, text: str) -> T | None:
        """Read text in which a default does not fit its own type, as Pydantic allows; None if another text would come."""
        with suppress(ValidationError, PydanticSerializationError):
            value = self._adapter.validate_json(drop_unset(text), by_name=True, by_alias=False)
            if self._write_plainly(value) == text.replace(MARK, ""):
                return value
        return None


def describe_type(tp: Any) -> str:
    """Return a short name of a type for messages."""
    if isinstance(tp, type) and not getattr(tp, "__args__", None):
        return "None" if tp is type(None) else tp.__name__
    return str(tp).replace("typing.", "")


def _build_adapter(tp: Any, name: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(tp)
    except (PydanticUserError, TypeError) as error:
        first_line = str(error).splitlines()[0]
        raise DefinitionError(f"{name} cannot be used as a schema: {first_line}") from error


def _remove(plain: Any, location: Sequence[int | str]) -> None:
    """Remove the field that a validation error is about."""
    *outer, name = location
    for part in outer:
        if isinstance(plain, list) and isinstance(part, int):
            plain = plain[part]
        elif isinstance(plain, dict):
            plain = plain.get(part, plain)  # some parts name no key but a member of a union
    if isinstance(plain, dict):
        plain.pop(name, None)


def _describe_unreadable(error: ValidationError | PayloadError) -> Unstorable:
    if isinstance(error, PayloadError):
        return Unstorable("", str(error))
    first = error.errors(include_url=False, include_input=False)[0]
    return Unstorable(format_location(first["loc"]), f"its JSON cannot be read back ({first['type']})")


def _attempt(dump: Callable[[T], Any], value: T, what: str) -> Any:
    """Run a serialization; the error of a serializer becomes a PayloadError that names the place within ``value``."""
    try:
        return dump(value)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        reason = hide_secrets(describe_error(error), value)
        raise refusal(what, find_unserializable(value) or Unstorable("", reason)) from None
