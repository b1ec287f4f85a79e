from __future__ import annotations

import pytest

from edgeq.errors import DropError
from edgeq.intake import child
from edgeq.intake.sandbox import PURPOSES, Measure

NO_LANDLOCK = "the kernel has none: it came with Linux 5.13"


@pytest.fixture
def measured(monkeypatch):
    """A box whose child would answer so."""

    def answer(**missing: str) -> None:
        measures = tuple(Measure(name, missing.get(name, "")) for name in PURPOSES)
        monkeypatch.setattr(child, "check_sandbox", lambda: measures)

    return answer


def test_doctor_tries_the_sandbox_of_this_box(edgeq):
    found = edgeq("doctor", "--json").json["sandbox"]
    assert found["is_usable"]
    assert [check["check"].split("-", 1)[0] for check in found["checks"]] == [
        name.split("-", 1)[0] for name in PURPOSES
    ]
    assert found["is_complete"] == (found["reason"] == "")


def test_doctor_says_what_a_complete_sandbox_holds(edgeq, measured):
    measured()
    text = edgeq("doctor").out
    assert "sandbox in force: a drop is first opened in a child that can do little" in text
    assert "  ok seccomp           who breaks into the runtime opens no file, socket" in text


def test_doctor_says_what_lacks_why_and_that_it_is_not_needed(edgeq, measured):
    measured(landlock=NO_LANDLOCK)
    found = edgeq("doctor", "--json").json["sandbox"]
    assert found["is_complete"]
    (lacking,) = [check for check in found["checks"] if not check["is_well"]]
    assert lacking["message"] == (
        f"not in force ({NO_LANDLOCK}), so nothing says that no file is read, written or run, "
        "even where the filter has a hole"
    )
    assert lacking["hint"] == "Nothing need be done: the other measures are enough."


def test_doctor_warns_where_a_hostile_drop_is_not_held(edgeq, measured):
    measured(seccomp="edgeq has no list of system calls for riscv64", landlock=NO_LANDLOCK)
    ran = edgeq("doctor")
    assert ran.code == 0  # good models are taken all the same
    assert "sandbox not complete, a hostile drop could reach the box: seccomp is not in" in ran.out
    assert "security.public_keys" in ran.out


def test_without_a_child_that_works_doctor_exits_1(edgeq, monkeypatch):
    def broken() -> None:
        raise DropError("the runtime crashed (SIGILL) while starting", stage="probe")

    monkeypatch.setattr(child, "check_sandbox", broken)
    ran = edgeq("doctor")
    assert ran.code == 1
    assert "sandbox not usable, no drop can be taken: the runtime crashed (SIGILL)" in ran.out
