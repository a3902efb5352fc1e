"""One list of telling names decides what is hidden, wherever it would be recorded or shown."""

from __future__ import annotations

import ast
import threading
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, field_serializer, field_validator, model_validator

import workflow_engine
from workflow_engine.definition import Schema
from workflow_engine.errors import InvalidDataError, PayloadError
from workflow_engine.payloads.secrets import DEFAULT_WORDS, Redactor, active_redactor, redacting
from workflow_engine.settings import Settings

PACKAGE = Path(workflow_engine.__file__).parent
IBAN = "DE89370400440532013000"


class Account(BaseModel):
    owner: str = ""
    iban: str = Field(default="", max_length=30)
    more: list[dict[str, Any]] = []

    @field_validator("owner")
    @classmethod
    def refuse_owner(cls, owner: str) -> str:
        if owner.startswith("bad"):
            raise ValueError(f"owner {owner} is bad")
        return owner

    @model_validator(mode="after")
    def refuse_iban(self) -> Account:
        if self.iban.startswith("DE"):
            raise ValueError(f"{self.iban} is German, {self.more}")
        return self

    @field_serializer("iban")
    def write(self, iban: str) -> str:
        if iban.startswith("FR"):
            raise ValueError(f"cannot write {iban}")
        return iban


class Customer(BaseModel):
    iban: str
    account: Account

    @field_validator("account", mode="before")
    @classmethod
    def compare(cls, account: Any, info: Any) -> Any:
        if account["owner"] == "quoting":
            raise ValueError(f"{info.data['iban']} is not of this account")
        return account


def problems(tp: Any, value: object) -> str:
    with pytest.raises((InvalidDataError, PayloadError)) as caught:
        Schema.of(tp).store(value, what="input")
    return str(caught.value)


@pytest.mark.parametrize(
    ("tp", "value"),
    [
        (Account, {"iban": IBAN}),
        (Account, {"iban": f"{IBAN}{IBAN}"}),
        (Account, {"iban": "DE", "more": [{"iban": [IBAN]}]}),
        (list[Account], [{"iban": IBAN}]),
        (Customer, {"iban": IBAN, "account": {"owner": "quoting"}}),
        (Customer, {"iban": IBAN, "account": {"owner": f"bad {IBAN}"}}),
        (Account, Account.model_construct(iban=f"FR{IBAN}")),
    ],
    ids=repr,
)
def test_a_message_of_a_validator_shows_no_value_that_the_setting_names(tp: Any, value: Any) -> None:
    with redacting(Redactor(["iban"])):
        hidden = problems(tp, value)
    shown = problems(tp, value)

    assert IBAN not in hidden
    assert "[redacted]" in hidden or "not shown because of its name" in hidden
    assert IBAN in shown or "at most 30 characters" in shown


def test_text_that_does_not_fit_shows_no_secret_either() -> None:
    text = f'{{"iban":"{IBAN}","account":{{"owner":"quoting"}}}}'

    with redacting(Redactor(["iban"])), pytest.raises(InvalidDataError) as caught:
        Schema.of(Customer).decode(text, what="output")

    assert IBAN not in str(caught.value)


def test_a_thread_with_the_context_goes_by_the_same_list() -> None:
    ours, seen = Redactor(["iban"]), []

    with redacting(ours):
        context = copy_context()
    thread = threading.Thread(target=lambda: context.run(lambda: seen.append(active_redactor())))
    thread.start()
    thread.join()

    assert seen == [ours]
    assert active_redactor() is not ours


@pytest.mark.parametrize(
    "name",
    [
        *(
            "api_key",
            "apiKey",
            "API-KEY",
            "x_api_keys",
            "token",
            "access_token",
            "tokenSecret",
            "tokens_secret",
            "secrets",
        ),
        *(
            "password",
            "passwd",
            "passphrase",
            "Authorization",
            "credentials",
            "private_key",
            "privateKey",
            "PRIVATE-KEY",
        ),
    ],
)
def test_the_default_list_names_what_is_secret(name: str) -> None:
    assert Redactor(DEFAULT_WORDS).is_secret(name)
    assert Redactor(Settings().redact_keys).value({name: "x"}) == {name: "[redacted]"}


@pytest.mark.parametrize("name", ["max_tokens", "tokens", "maxTokens", "TOKENS", "total_tokens_", "key", "name", 3])
def test_a_number_of_tokens_is_no_secret(name: Any) -> None:
    assert not Redactor(DEFAULT_WORDS).is_secret(name)
    assert Redactor(DEFAULT_WORDS).text(f"{name}=many") == f"{name}=many"


def test_data_to_be_shown_keeps_its_texts_and_hides_values_by_name() -> None:
    data = {
        "text": "password=x",
        "login": {"password": "x", "pin": 1},
        "rows": [{"token": 5, "tokens": 5}],
        "secret": None,
    }

    assert Redactor(DEFAULT_WORDS).data(data) == {
        "text": "password=x",
        "login": {"password": "[redacted]", "pin": 1},
        "rows": [{"token": "[redacted]", "tokens": 5}],
        "secret": None,
    }
    assert Redactor([]).data(data) == data


@pytest.mark.parametrize("value", ["x", "", True, ["x"], {"a": "x"}, None, 5, 1.5], ids=repr)
@pytest.mark.parametrize("name", ["iban", "iban_2", "name"])
def test_recording_and_showing_hide_the_same_values_except_numbers(name: str, value: Any) -> None:
    redactor = Redactor(["iban"])

    recorded, shown = redactor.value([{"a": {name: value}}]), redactor.data([{"a": {name: value}}])

    assert shown == [{"a": {name: "[redacted]" if name != "name" and value is not None else value}}]
    assert recorded == ([{"a": {name: value}}] if isinstance(value, int | float) else shown)


def test_every_part_of_a_process_hides_by_the_redactor_of_its_settings() -> None:
    makers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Redactor"
    }

    assert makers == {"settings.py", "payloads/secrets.py"}
    assert Settings(redact_keys=("iban",)).redactor.value({"iban": "x", "token": "y"}) == {
        "iban": "[redacted]",
        "token": "y",
    }
