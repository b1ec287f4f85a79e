from __future__ import annotations

import sys

import bcrypt
import pytest

from edgeq.errors import ConfigError
from edgeq.observe import passwords
from edgeq.observe.passwords import Passwords


def hashed(password: bytes, prefix: bytes = b"2b", rounds: int = 4) -> str:
    text = bcrypt.hashpw(password[:72], bcrypt.gensalt(rounds)).decode()
    return text.replace("$2b$", f"${prefix.decode()}$")


class Counted:
    """bcrypt's check, counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.against: list[bytes] = []
        real = bcrypt.checkpw

        def check(password: bytes, text: bytes) -> bool:
            self.against.append(text)
            return real(password, text)

        monkeypatch.setattr(bcrypt, "checkpw", check)


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2y"])
def test_the_right_password_of_a_known_user_is_right(prefix: bytes) -> None:
    known = Passwords({"alice": hashed(b"s3cret", prefix), "bob": hashed(b"other")})
    assert known.is_right("alice", b"s3cret")
    for user, password in (("alice", b"other"), ("bob", b"s3cret"), ("carol", b"s3cret"),
                           ("alice", b""), ("alice", b"s3cret\0"), ("", b"")):  # fmt: skip
        assert not known.is_right(user, password)


def test_the_toolkit_s_own_example_is_understood() -> None:
    """carol's hash and password of exporter-toolkit's tests (web/testdata, tls_config_test.go)."""
    known = Passwords({"carol": "$2y$10$qRTBuFoULoYNA7AQ/F3ck.trZBPyjV64.oA4ZsSBCIWvXuvQlQTuu"})
    assert known.is_right("carol", b"carol123")
    assert not known.is_right("carol", b"carol124")


def test_a_password_is_cut_where_go_cuts_it() -> None:
    known = Passwords({"alice": hashed(b"x" * 72)})
    assert known.is_right("alice", b"x" * 72 + b"more")
    assert not known.is_right("alice", b"x" * 71)


def test_a_right_password_costs_bcrypt_once_and_a_wrong_one_each_time(monkeypatch) -> None:
    counted = Counted(monkeypatch)
    known = Passwords({"alice": hashed(b"s3cret")})
    for _ in range(3):
        assert known.is_right("alice", b"s3cret")
    assert len(counted.against) == 1
    for _ in range(3):
        assert not known.is_right("alice", b"guess")
    assert len(counted.against) == 4


def test_an_unknown_user_costs_as_much_as_the_dearest_known_one(monkeypatch) -> None:
    cheap, dear = hashed(b"a"), hashed(b"b", rounds=5)
    counted = Counted(monkeypatch)
    assert not Passwords({"alice": cheap, "bob": dear}).is_right("carol", b"b")
    assert counted.against == [dear.encode()]


def test_what_is_remembered_is_bounded_and_holds_no_password(monkeypatch) -> None:
    monkeypatch.setattr(passwords, "MAX_REMEMBERED", 3)
    known = Passwords({"alice": hashed(b"x" * 72)})
    for tail in range(5):
        assert known.is_right("alice", b"x" * 72 + bytes([tail]))
    assert 1 <= len(known._right) <= 3
    assert not any(b"xxx" in digest for digest in known._right)


def test_without_bcrypt_it_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(ConfigError, match="need the package bcrypt") as caught:
        Passwords({"alice": "$2b$04$x"})
    assert "edgeq[basic-auth]" in caught.value.hint
