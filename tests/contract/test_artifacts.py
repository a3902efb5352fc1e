"""Artifacts are written only by who holds the lease, on both databases."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from workflow_engine.errors import LeaseLost
from workflow_engine.store.reads.artifacts import (
    delete_artifact,
    find_artifact,
    list_artifact_keys,
    list_artifacts,
    load_artifact,
    save_artifact,
)

if TYPE_CHECKING:
    from workflow_engine.store.connection.database import Database
    from workflow_engine.store.records import Claim


@pytest.fixture
def claim(records: Any) -> Claim:
    return records.claim(records.run())


def test_an_artifact_comes_back_as_it_was_saved(database: Database, claim: Claim) -> None:
    save_artifact(database, claim, "page/1", '{"a":"\\u0000"}', shared=False)

    assert load_artifact(database, claim, "page/1", shared=False) == '{"a":"\\u0000"}'
    assert database.read(lambda tx: find_artifact(tx, claim.run_id, "extract", "page/1")) == '{"a":"\\u0000"}'


def test_saving_again_replaces_the_value_and_keeps_the_time_of_creation(database: Database, claim: Claim) -> None:
    save_artifact(database, claim, "page", "1", shared=False)
    [first] = database.read(lambda tx: list_artifacts(tx, claim.run_id))

    save_artifact(database, claim, "page", '"longer"', shared=False)
    [second] = database.read(lambda tx: list_artifacts(tx, claim.run_id))

    assert load_artifact(database, claim, "page", shared=False) == '"longer"'
    assert (first.size_bytes, second.size_bytes) == (1, 8)
    assert second.created_at == first.created_at <= second.updated_at


def test_the_same_key_of_a_stage_of_its_run_and_of_another_stage_are_three_artifacts(
    database: Database, records: Any, claim: Claim
) -> None:
    other = records.claim(claim.run_id, "classify")
    save_artifact(database, claim, "k", "1", shared=False)
    save_artifact(database, claim, "k", "2", shared=True)
    save_artifact(database, other, "k", "3", shared=False)

    entries = database.read(lambda tx: list_artifacts(tx, claim.run_id))

    assert [entry.stage_id for entry in entries] == [None, "classify", "extract"]
    assert load_artifact(database, claim, "k", shared=False) == "1"
    assert load_artifact(database, other, "k", shared=True) == "2"
    assert database.read(lambda tx: find_artifact(tx, claim.run_id, None, "k")) == "2"


def test_a_stage_run_has_one_value_under_a_shared_key_however_often_others_save_and_delete_it(
    database: Database, records: Any, claim: Claim
) -> None:
    other = records.claim(claim.run_id, "classify")
    for one in (claim, other):
        save_artifact(database, one, "k", one.stage_id, shared=True)
    delete_artifact(database, claim, "k", shared=True)
    hidden = load_artifact(database, other, "k", shared=True)

    save_artifact(database, other, "k", "again", shared=True)

    assert hidden is None
    assert load_artifact(database, claim, "k", shared=True) == "again"
    assert len(database.read(lambda tx: list_artifacts(tx, claim.run_id, history=True))) == 1


def test_keys_are_listed_by_prefix_sorted_and_the_case_matters(database: Database, claim: Claim) -> None:
    for key in ("b/2", "a/1", "B/1", "b/1", "b_1"):
        save_artifact(database, claim, key, "1", shared=False)
    save_artifact(database, claim, "b/shared", "1", shared=True)

    assert list_artifact_keys(database, claim, "b/", shared=False) == ["b/1", "b/2"]
    assert list_artifact_keys(database, claim, "", shared=True) == ["b/shared"]


def test_an_artifact_is_deleted_once(database: Database, claim: Claim) -> None:
    save_artifact(database, claim, "k", "1", shared=False)

    answers = [delete_artifact(database, claim, "k", shared=False) for _ in range(2)]

    assert answers == [True, False]
    assert load_artifact(database, claim, "k", shared=False) is None


@pytest.mark.parametrize("how", ["other fence", "no lease"])
def test_who_lost_the_lease_changes_nothing(database: Database, claim: Claim, how: str) -> None:
    save_artifact(database, claim, "k", "1", shared=False)
    if how == "no lease":
        taken = "UPDATE workflow_stages SET status = 'PENDING', lease_id = NULL, lease_until = NULL"
        database.transact(lambda tx: tx.execute(sa.text(taken)))
    lost = claim if how == "no lease" else replace(claim, fence=2)

    with pytest.raises(LeaseLost, match="artifact 'k' is left as it is"):
        save_artifact(database, lost, "k", "2", shared=False)
    with pytest.raises(LeaseLost):
        delete_artifact(database, lost, "k", shared=False)

    assert load_artifact(database, claim, "k", shared=False) == "1"


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_saving_while_another_transaction_ends_the_run_waits_for_it_and_is_refused(
    database: Database, claim: Claim
) -> None:
    answers: list[object] = []

    def save() -> None:
        try:
            answers.append(save_artifact(database, claim, "k", "1", shared=False))
        except LeaseLost as error:
            answers.append(error)

    saver = threading.Thread(target=save)
    with database.pool.begin() as tx:
        tx.execute(sa.text("SET LOCAL lock_timeout = '300ms'"))
        tx.execute(sa.text("SELECT 1 FROM workflow_runs FOR UPDATE"))
        saver.start()
        _wait_until_blocked(database)
        tx.execute(sa.text("UPDATE workflow_stages SET fence = 2, status = 'CANCELLED', lease_id = NULL, "
                           "lease_until = NULL, completed_at = 1"))  # fmt: skip
    saver.join(30)

    [answer] = answers
    assert isinstance(answer, LeaseLost)


def _wait_until_blocked(database: Database) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while not database.read(lambda tx: tx.scalar(sa.text(waiting))):
        pass
