from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from celery import Celery
from pydantic import BaseModel

from workflow_engine.definition import StageContext, WorkflowBuilder, stage
from workflow_engine.errors import ConfigurationError
from workflow_engine.settings import Settings
from workflow_engine.worker.installation import find_installation
from workflow_engine.worker.loading import (
    WORKFLOWS_VARIABLE,
    collect_workflows,
    install_from_environment,
    load_named,
    make_app,
)


class Note(BaseModel):
    text: str = ""


@stage(queue="printer")
def copy(ctx: StageContext[Note]) -> Note:
    return ctx.input


first = WorkflowBuilder("first", input=Note).pipe(copy).build()
second = WorkflowBuilder("second", input=Note).pipe(copy).build()


class Runtime:
    def __init__(self) -> None:
        self.apps: list[Celery] = []

    def install(self, app: Celery) -> None:
        self.apps.append(app)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture(autouse=True)
def shop(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("shop_of_loading_tests")
    module.first, module.both, module.by_id, module.runtime = first, [first, second], {"second": second}, runtime
    monkeypatch.setitem(sys.modules, "shop_of_loading_tests", module)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        ("shop_of_loading_tests:first", ("first",)),
        ("shop_of_loading_tests:both", ("first", "second")),
        ("shop_of_loading_tests:first, shop_of_loading_tests:by_id,", ("first", "second")),
    ],
)
def test_names_may_stand_for_one_workflow_several_or_a_mapping(names: str, ids: tuple[str, ...]) -> None:
    assert collect_workflows(load_named(names)).ids() == ids


def test_a_runtime_installs_itself(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKFLOWS_VARIABLE, "shop_of_loading_tests:runtime")
    app = Celery(set_as_current=False)

    install_from_environment(app)

    assert runtime.apps == [app]


def test_workflows_are_installed_with_the_queues_of_their_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKFLOWS_VARIABLE, "shop_of_loading_tests:both")
    app = Celery(set_as_current=False)

    install_from_environment(app)

    installation = find_installation(app)
    assert installation is not None
    assert installation.list_queues() == ["workflow.control", "workflow", "printer"]


def test_an_app_that_is_named_is_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery(set_as_current=False)
    monkeypatch.setattr(sys.modules["shop_of_loading_tests"], "app", app, raising=False)
    monkeypatch.setenv(WORKFLOWS_VARIABLE, "shop_of_loading_tests:app")

    assert make_app(Settings.load()) is app


def test_workflows_that_are_named_get_an_app_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKFLOWS_VARIABLE, "shop_of_loading_tests:first")

    app = make_app(Settings.load(queue="documents"))

    assert app.conf.task_default_queue == "documents"
    assert find_installation(app) is not None


def test_queues_are_listed_once() -> None:
    assert collect_workflows([[first, second]]).stage_queues() == ["printer"]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("", "Set WORKFLOW_ENGINE_WORKFLOWS"),
        ("shop_of_loading_tests", "is not package.module:attribute"),
        (":first", "is not package.module:attribute"),
        ("no_such_shop:first", "There is no module 'no_such_shop'"),
        (
            "shop_of_loading_tests:frist",
            r"has no 'frist' \(did you mean \"first\"\? it has: first, both, by_id, runtime\)",
        ),
    ],
)
def test_a_name_that_names_nothing_is_told(names: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKFLOWS_VARIABLE, names)

    with pytest.raises(ConfigurationError, match=problem):
        install_from_environment(Celery(set_as_current=False))


def test_a_module_whose_own_import_fails_says_what_it_misses(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_a_shop.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        load_named("half_a_shop:first")
