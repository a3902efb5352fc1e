from __future__ import annotations

import click
import pytest

from workflow_engine.cli.errors import as_line, run_command
from workflow_engine.errors import ConfigurationError


def raising(error: BaseException) -> object:
    raise error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigurationError("two\nlines"), "Error: two lines"),
        (click.UsageError("No such option: --x"), "Error: No such option: --x"),
        (click.BadParameter("not JSON", param_hint="--input"), "Error: Invalid value for --input: not JSON"),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_2(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(lambda: raising(error))

    assert code == 2
    assert capsys.readouterr() == ("", line + "\n")


@pytest.mark.parametrize("error", [click.Abort(), KeyboardInterrupt()])
def test_an_interruption_exits_as_shells_expect(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: raising(error)) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_went_away_is_no_error() -> None:
    assert run_command(lambda: raising(BrokenPipeError())) == 0


def test_the_exit_code_of_a_command_is_passed_on() -> None:
    assert run_command(lambda: 124) == 124
    assert run_command(lambda: None) == 0


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:hunter2@host/db",
        "redis://:hunter2@host",
        "postgresql://user:p@hunter2@host/db is malformed",
        "host=h password=hunter2",
        "?PASSWORD=hunter2&x=1",
    ],
)
def test_passwords_are_masked(text: str) -> None:
    assert "hunter2" not in as_line(text)


def test_an_unexpected_error_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(lambda: raising(ZeroDivisionError("division by zero")))

    assert code == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ZeroDivisionError: division by zero (")
    assert error.count("\n") == 1


def test_an_unexpected_error_shows_where_it_comes_from_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_ENGINE_TRACEBACK", "1")

    with pytest.raises(ZeroDivisionError):
        run_command(lambda: raising(ZeroDivisionError()))
