"""One version is live, it exists, and it is the only committed one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeq.errors import RegistryError
from edgeq.registry import Registry
from edgeq.registry.migrations import STATES
from edgeq.registry.registry import MAX_EVENTS


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(tmp_path / "state" / "edgeq.db")
    yield opened
    opened.close()


def add(registry: Registry, name: str = "face") -> int:
    return registry.add_version(name, model_sha256="ab", engine="cpu-int8", method="entropy")


def committed(registry: Registry, count: int) -> None:
    for _ in range(count):
        registry.commit("face", add(registry))


def states(registry: Registry) -> list[str]:
    """The states of face's versions, oldest first."""
    return [version.state for version in reversed(registry.versions("face"))]


def live(registry: Registry) -> int | None:
    version = registry.live("face")
    return version.version if version else None


def previous(registry: Registry) -> int | None:
    version = registry.previous("face")
    return version.version if version else None


# Versions.


def test_versions_count_from_one_for_each_name(registry: Registry) -> None:
    assert [add(registry), add(registry), add(registry, "kws"), add(registry)] == [1, 2, 1, 3]
    assert registry.names() == ["face", "kws"]
    assert [version.version for version in registry.versions("face")] == [3, 2, 1]


def test_a_new_version_is_installed_and_not_live(registry: Registry) -> None:
    add(registry)
    version = registry.version("face", 1)
    assert (version.state, version.reason, version.directory) == ("installed", "", "face/1")
    assert live(registry) is None


def test_a_directory_of_ones_own_is_kept(registry: Registry) -> None:
    registry.add_version("a", model_sha256="", engine="float", method="", directory="elsewhere/7")
    assert registry.version("a", 1).directory == "elsewhere/7"


def test_the_number_of_a_removed_version_is_not_given_again(registry: Registry) -> None:
    add(registry)
    registry.remove_version("face", add(registry))
    assert add(registry) == 3
    assert [version.version for version in registry.versions("face")] == [3, 1]


def test_a_missing_version_is_named_with_those_there_are(registry: Registry) -> None:
    committed(registry, 2)
    for call in (registry.version, registry.commit, registry.remove_version):
        with pytest.raises(RegistryError, match=r"'face' has no version 9; it has \[1, 2\]"):
            call("face", 9)


def test_nothing_is_known_of_an_unknown_model(registry: Registry) -> None:
    assert registry.live("who") is None
    assert registry.previous("who") is None
    assert registry.versions("who") == []
    assert not registry.is_pinned("who")


# Going live and back.


def test_a_commit_makes_live_and_retires_what_was(registry: Registry) -> None:
    committed(registry, 2)
    assert (live(registry), previous(registry)) == (2, 1)
    assert states(registry) == ["retired", "committed"]


def test_a_second_commit_of_the_same_version_changes_nothing(registry: Registry) -> None:
    committed(registry, 2)
    registry.commit("face", 2)
    assert (live(registry), previous(registry)) == (2, 1)


@pytest.mark.parametrize("state", ["rejected", "rolled_back"])
def test_a_version_that_failed_is_not_committed(registry: Registry, state: str) -> None:
    committed(registry, 1)
    registry.set_state("face", add(registry), state, "golden mismatch")
    with pytest.raises(RegistryError, match=rf"2 of 'face' is {state} \(golden mismatch\)"):
        registry.commit("face", 2)
    assert live(registry) == 1


def test_a_rollback_goes_back_and_remembers_why(registry: Registry) -> None:
    committed(registry, 2)
    assert registry.rollback("face", "3 of 9 requests failed").version == 1
    assert (live(registry), previous(registry)) == (1, None)
    failed = registry.version("face", 2)
    assert (failed.state, failed.reason) == ("rolled_back", "3 of 9 requests failed")


def test_rollbacks_go_back_through_what_was_live_and_did_not_fail(registry: Registry) -> None:
    committed(registry, 3)
    registry.rollback("face", "bad")
    committed(registry, 1)
    assert [registry.rollback("face", "bad").version for _ in range(2)] == [2, 1]
    assert states(registry) == ["committed", "rolled_back", "rolled_back", "rolled_back"]


def test_a_rollback_takes_a_person_where_they_say(registry: Registry) -> None:
    committed(registry, 3)
    assert registry.rollback_target("face", 1).version == 1
    assert registry.rollback("face", "by hand", to=1).version == 1
    assert registry.rollback("face", "by hand", to=3).version == 3
    assert states(registry) == ["rolled_back", "retired", "committed"]
    assert registry.version("face", 3).reason == ""


def test_a_rollback_without_an_earlier_version_changes_nothing(registry: Registry) -> None:
    committed(registry, 1)
    for call in (registry.rollback_target, lambda name: registry.rollback(name, "bad")):
        with pytest.raises(RegistryError, match="no earlier version") as caught:
            call("face")
        assert "edgeq history" in caught.value.hint
    assert live(registry) == 1


@pytest.mark.parametrize("state", ["installed", "verified", "rejected", "retired"])
def test_a_rollback_never_leads_to_a_version_that_was_not_live(
    registry: Registry, state: str
) -> None:
    committed(registry, 1)
    registry.set_state("face", add(registry), state)
    assert previous(registry) is None
    with pytest.raises(RegistryError, match=f"2 of 'face' is {state}; expected one that was live"):
        registry.rollback("face", "by hand", to=2)
    assert live(registry) == 1


def test_the_live_version_is_not_a_rollback_target(registry: Registry) -> None:
    committed(registry, 2)
    with pytest.raises(RegistryError, match="is committed; expected"):
        registry.rollback("face", "by hand", to=2)


def test_the_live_version_can_neither_be_removed_nor_restated(registry: Registry) -> None:
    committed(registry, 1)
    for call in (
        lambda: registry.remove_version("face", 1),
        lambda: registry.set_state("face", 1, "rejected"),
    ):
        with pytest.raises(RegistryError, match="1 of 'face' is live") as caught:
            call()
        assert "edgeq rollback face" in caught.value.hint
    assert live(registry) == 1


@pytest.mark.parametrize("state", ["committed", "broken"])
def test_committed_and_unknown_states_cannot_be_set(registry: Registry, state: str) -> None:
    add(registry)
    with pytest.raises(RegistryError, match=f"'{state}' cannot be set"):
        registry.set_state("face", 1, state)


def test_removing_the_live_version_retires_it(registry: Registry) -> None:
    committed(registry, 1)
    registry.remove_live("face")
    registry.remove_live("face")
    assert (live(registry), previous(registry)) == (None, 1)
    registry.commit("face", 1)
    assert live(registry) == 1


def test_a_pin_is_a_mark_on_a_model_that_exists(registry: Registry) -> None:
    add(registry)
    registry.pin("face")
    assert registry.is_pinned("face")
    registry.unpin("face")
    assert not registry.is_pinned("face")
    with pytest.raises(RegistryError, match="no model 'who'"):
        registry.pin("who")


# Events and drops.


def test_events_come_newest_first_with_their_fields(registry: Registry) -> None:
    registry.record("face", "committed", "version 1 serves", version=1, seconds=0.25)
    registry.record("", "reload", "configuration read", path=Path("a"))
    newest, oldest = registry.events()
    assert (oldest.name, oldest.version, oldest.fields) == ("face", 1, {"seconds": 0.25})
    assert (newest.kind, newest.version, newest.fields) == ("reload", None, {"path": "a"})
    assert newest.time >= oldest.time > 0


def test_events_can_be_asked_of_one_model(registry: Registry) -> None:
    for number in range(6):
        registry.record("face" if number % 2 else "kws", "tick", str(number))
    assert [event.message for event in registry.events(2, "face")] == ["5", "3"]
    assert [event.message for event in registry.events(2)] == ["5", "4"]


def test_only_the_newest_events_are_kept(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_EVENTS == 10_000
    monkeypatch.setattr("edgeq.registry.registry.MAX_EVENTS", 5)
    for number in range(12):
        registry.record("face", "tick", str(number))
    assert [event.message for event in registry.events(100)] == ["11", "10", "9", "8", "7"]


def test_refusals_push_out_one_another_and_no_other_event(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.registry.registry.MAX_REFUSALS", 3)
    registry.record("face", "committed", "version 1 serves")
    for number in range(9):
        registry.record(f"flood{number}", "quarantined", str(number))
    messages = [event.message for event in registry.events(100)]
    assert messages == ["8", "7", "6", "version 1 serves"]


def test_drops_of_names_without_a_model_are_forgotten_after_a_while(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.registry.registry.MAX_DROPS", 3)
    add(registry)
    registry.drop_seen("face", "ab", "quarantined")
    for number in range(9):
        registry.drop_seen("flood", str(number), "quarantined")
    known = [number for number in range(9) if registry.drop_outcome("flood", str(number))]
    assert known == [6, 7, 8]
    assert registry.drop_outcome("face", "ab") == "quarantined"


def test_the_same_bytes_under_the_same_name_are_known(registry: Registry) -> None:
    registry.drop_seen("face", "ab", "quarantined")
    assert registry.drop_outcome("face", "ab") == "quarantined"
    assert registry.drop_outcome("kws", "ab") is None
    registry.drop_seen("face", "ab", "accepted")
    assert registry.drop_outcome("face", "ab") == "accepted"
    registry.forget_drop("face", "ab")
    assert registry.drop_outcome("face", "ab") is None


def test_an_unknown_outcome_of_a_drop_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="CHECK constraint"):
        registry.drop_seen("face", "ab", "lost")


# Threads and laws.


def test_threads_may_share_a_registry(registry: Registry) -> None:
    def work() -> None:
        for _ in range(5):
            registry.commit("face", add(registry))
            registry.record("face", "tick", "")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(v.version for v in registry.versions("face")) == list(range(1, 21))
    assert states(registry).count("committed") == 1
    assert len(registry.events(100)) == 20


class AnyOrderOfCalls(RuleBasedStateMachine):
    """Whatever is called in whatever order, the live version is the only committed one."""

    fresh: Callable[[], Registry]

    def __init__(self) -> None:
        super().__init__()
        self.registry = type(self).fresh()
        self.count = 0

    def teardown(self) -> None:
        self.registry.close()

    def attempt(self, call: Callable[[], object]) -> None:
        before = self.registry.versions("face")
        try:
            call()
        except RegistryError:
            assert self.registry.versions("face") == before  # refused means unchanged

    @rule()
    def install(self) -> None:
        self.count += 1
        assert add(self.registry) == self.count

    @precondition(lambda self: self.count)
    @rule(data=st.data(), state=st.sampled_from(STATES))
    def restate(self, data: st.DataObject, state: str) -> None:
        number = data.draw(st.integers(1, self.count))
        self.attempt(lambda: self.registry.set_state("face", number, state))

    @precondition(lambda self: self.count)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, self.count))
        self.attempt(lambda: self.registry.commit("face", number))

    @precondition(lambda self: self.count)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        to = data.draw(st.none() | st.integers(1, self.count))
        self.attempt(lambda: self.registry.rollback("face", "bad", to=to))

    @precondition(lambda self: self.count)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, self.count))
        self.attempt(lambda: self.registry.remove_version("face", number))

    @rule()
    def unload(self) -> None:
        self.registry.remove_live("face")

    @invariant()
    def only_the_live_version_is_committed(self) -> None:
        found = [v for v in self.registry.versions("face") if v.state == "committed"]
        current = self.registry.live("face")
        assert found == ([current] if current else [])


def test_in_any_order_of_calls_the_live_version_is_the_only_committed_one(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    class Machine(AnyOrderOfCalls):
        @staticmethod
        def fresh() -> Registry:
            return Registry(tmp_path_factory.mktemp("registry") / "edgeq.db")

    Machine.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
    Machine.TestCase().runTest()


def test_what_a_drift_led_to_is_remembered_through_a_restart(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "edgeq.db")
    assert registry.drift_note("m") is None
    registry.note_drift("m", started=[1.5], refusals=1)
    registry.note_drift("m", started=[1.5, 2.5], refusals=0)
    registry.close()
    again = Registry(tmp_path / "edgeq.db")
    assert again.drift_note("m") == {"started": [1.5, 2.5], "refusals": 0}
    again.close()
