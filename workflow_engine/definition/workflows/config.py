"""Config of a run: the caller's overrides, merged over the defaults of the stages and checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, BaseModel, RootModel, ValidationError

from workflow_engine.definition.stages.signatures import union_members
from workflow_engine.errors import InvalidDataError, PayloadError
from workflow_engine.names import among
from workflow_engine.payloads.round_trip_losses import list_fields, take_apart
from workflow_engine.payloads.text import join_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from workflow_engine.definition.stages.stage import Stage
    from workflow_engine.payloads.schemas import Schema


def resolve_config(stages: Mapping[str, Stage[Any, Any]], overrides: object, *, what: str) -> dict[str, Any]:
    """Return the config of every stage as plain JSON: ``overrides`` merged deeply over the defaults, then parsed.

    Args:
        stages: The stages of the workflow.
        overrides: Config by stage id, as mappings or models; None for none.
        what: Names it in errors.

    Raises:
        InvalidDataError: All problems of all stages at once, each with its path.
    """
    given, problems = _check_shape(stages, overrides)
    resolved: dict[str, Any] = {}
    for stage_id, stage in stages.items():
        try:
            resolved[stage_id] = _resolve(stage.config, given.get(stage_id))
        except InvalidDataError as error:
            problems.extend(_prefix(stage_id, problem) for problem in error.problems)
    if problems:
        raise InvalidDataError(what, problems)
    return resolved


def default_config(schema: Schema[Any]) -> Any:
    """Return the defaults of a config as plain JSON; fields without a default are absent."""
    try:
        return _resolve(schema, None)
    except Exception:  # noqa: BLE001 - pydantic before 2.14 calls factories that read a field without a default
        return _list_defaults(schema.type) if _is_model(schema.type) else {}


def _list_defaults(model: type[BaseModel]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if not field.is_required():
            with suppress(Exception):  # a factory that reads a field without a default
                known[name] = field.get_default(call_default_factory=True, validated_data=known)
    others = dict.fromkeys(model.model_fields.keys() - known.keys())
    return model.model_construct(**known, **others).model_dump(mode="json", include=set(known), warnings=False)


def _check_shape(stages: Mapping[str, Any], overrides: object) -> tuple[dict[str, Any], list[str]]:
    if overrides is None:
        return {}, []
    if not isinstance(overrides, Mapping):
        return {}, [f"expected a mapping of stage ids to configs, got {type(overrides).__name__}"]
    known = {key: value for key, value in overrides.items() if key in stages}
    unknown = [key for key in overrides if key not in known]
    return known, [f"no stage {key!r}" + among(key, stages, kind="stages") for key in unknown]


def _prefix(stage_id: str, problem: str) -> str:
    """Put the stage in front of the problem's path, or in its place where it has none (paths have no spaces)."""
    path, colon, _ = problem.partition(": ")
    has_path = bool(colon) and " " not in path
    return f"{stage_id}.{problem}" if has_path else f"{stage_id}: {problem}"


def _resolve(schema: Schema[Any], override: Any) -> Any:
    try:
        if not _is_model(schema.type) or type(override) is schema.type:
            return schema.to_plain(schema.parse({} if override is None else override, what="config"), what="config")
        return schema.to_plain(schema.parse_fields(_merged(schema.type, override), what="config"), what="config")
    except PayloadError as error:
        raise InvalidDataError("config", [str(error)]) from None


def _merged(model: type[BaseModel], override: Any) -> dict[str, Any]:
    """Return the fields to parse by field name; a default that the overrides do not touch is left to Pydantic."""
    given = take_apart(override) if isinstance(override, BaseModel) else override
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise InvalidDataError("config", [f"expected a mapping or a {model.__name__}, got {type(given).__name__}"])
    problems = list(_unknown_fields(model, given, ""))
    if problems:
        raise InvalidDataError("config", problems)
    return _merge_model(model, {}, given)


def _merge_model(model: type[BaseModel], base: Mapping[str, Any], given: Mapping[Any, Any]) -> dict[str, Any]:
    """Merge the given fields over ``base``, the fields that a default instance of the model sets."""
    names = _field_names(model)
    named = {names.get(key, key): item for key, item in given.items()}
    merged = {**base, **named}
    for name, item in named.items():
        models = _models_of(model.model_fields.get(name))
        # A mapping may be one of several models: it then takes the place of the default.
        if name in model.model_fields and isinstance(item, Mapping) and len(models) <= 1:
            below = base[name] if name in base else _default_of(model, name, merged)
            merged[name] = _merge_below(models[0] if models else None, below, item)
    return merged


def _merge_below(model: type[BaseModel] | None, default: Any, given: Mapping[Any, Any]) -> Any:
    """Merge the given part of a config over its default; fields that a default instance did not set are computed anew."""
    base = _parts_of(default)
    return _merge_plain(base, given) if model is None else _merge_model(model, base or {}, given)


def _parts_of(default: Any) -> Mapping[str, Any] | None:
    if isinstance(default, BaseModel):
        return {name: getattr(default, name) for name in default.model_fields_set}
    if is_dataclass(default):
        return list_fields(default)
    return default if isinstance(default, Mapping) else None


def _default_of(model: type[BaseModel], name: str, given: Mapping[str, Any]) -> Any:
    """Return the default of a field; None without one, or where other fields do not fit, which parsing reports."""
    field = model.model_fields[name]
    if not field.default_factory_takes_validated_data:
        return None if field.is_required() else field.get_default(call_default_factory=True)
    others = {key: item for key, item in given.items() if key != name}
    with suppress(ValidationError):
        return getattr(model.model_validate(others, by_name=True, by_alias=False), name)
    return None


def _merge_plain(default: Any, given: Any) -> Any:
    base = _parts_of(default)
    if base is None or not isinstance(given, Mapping):
        return given
    return {**base, **{key: _merge_plain(base.get(key), item) for key, item in given.items()}}


def _unknown_fields(model: type[BaseModel], given: Mapping[Any, Any], path: str) -> Iterator[str]:
    """Yield the keys that no field takes; a model that says ``extra="ignore"`` or ``"allow"`` means it."""
    names = _field_names(model)
    for key, item in given.items():
        models = _models_of(model.model_fields.get(names.get(key, "")))
        if len(models) == 1 and isinstance(item, Mapping):
            yield from _unknown_fields(models[0], item, join_path(path, key))
        elif key not in names and is_closed(model):
            there = among(key, model.model_fields, kind="fields")
            yield f"{join_path(path, key)}: no such field in {model.__name__}{there}"


def is_closed(model: type[BaseModel]) -> bool:
    """Tell whether a key that is not a field must be a mistake."""
    return model.model_config.get("extra") not in {"allow", "ignore"} and not rewrites_input(model)


def rewrites_input(model: type[BaseModel]) -> bool:
    """Tell whether validators of the model see, and may change, the raw input."""
    validators = model.__pydantic_decorators__.model_validators.values()
    return any(validator.info.mode in {"before", "wrap"} for validator in validators)


def _field_names(model: type[BaseModel]) -> dict[str, str]:
    """Return the field name for each key that a caller may use: names and aliases."""
    names: dict[str, str] = {}
    for name, field in model.model_fields.items():
        names.update(dict.fromkeys(_aliases(field), name))
    return names | {name: name for name in model.model_fields}


def _aliases(field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias, field.alias]
    return [choice for choice in choices if isinstance(choice, str)]


def _models_of(field: FieldInfo | None) -> list[type[BaseModel]]:
    """Return the models that a field may hold."""
    return [tp for tp in union_members(field.annotation) if _is_model(tp)] if field else []


def _is_model(tp: Any) -> bool:
    return isinstance(tp, type) and issubclass(tp, BaseModel) and not issubclass(tp, RootModel)
