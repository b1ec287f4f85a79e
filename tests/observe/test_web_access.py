from __future__ import annotations

import base64
from pathlib import Path

import bcrypt
import pytest

from edgeq.config import read_web_config
from edgeq.errors import ConfigError, EdgeqError
from edgeq.observe.web_access import AccessFile, Gate, RateLimit, TokenBucket, WebAccess
from tests.certificates import Authority

HASH = bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)).decode()


def basic(text: str, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(text.encode()).decode()}"


def test_without_users_everybody_is_known() -> None:
    assert Gate(WebAccess()).knows("")


def test_a_user_is_known_by_name_and_password() -> None:
    gate = Gate(WebAccess(users={"alice": HASH}))
    assert gate.knows(basic("alice:s3cret"))
    assert gate.knows(basic("alice:s3cret", "basic"))


@pytest.mark.parametrize(
    "authorization",
    ["", "Basic", "Basic ", "Basic %%%", "Basic é", basic("alice"), basic("alice:"),
     basic("alice:s3cret", "Bearer"), basic("bob:s3cret"), "s3cret"],
)  # fmt: skip
def test_anything_else_is_not(authorization: str) -> None:
    assert not Gate(WebAccess(users={"alice": HASH})).knows(authorization)


# ---- rate


def test_a_bucket_gives_a_burst_and_then_one_each_interval() -> None:
    now = [0.0]
    bucket = TokenBucket(RateLimit(interval_s=2.0, burst=3), lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 1.9
    assert not bucket.take()
    now[0] = 2.1
    assert [bucket.take(), bucket.take()] == [True, False]
    now[0] = 100.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_without_a_rate_there_is_always_room() -> None:
    assert all(Gate(WebAccess()).has_room() for _ in range(100))
    assert not Gate(WebAccess(rate_limit=RateLimit(1.0, 0))).has_room()


# ---- the file


class Watched:
    """An access file whose problems are kept."""

    def __init__(self, path: Path) -> None:
        self.problems: list[EdgeqError] = []
        self.file = AccessFile(path, read_web_config, self.problems.append)

    def knows(self, text: str) -> bool:
        return self.file.gate().knows(basic(text))


def users(path: Path, **given: str) -> None:
    lines = [f"  {name}: {text}\n" for name, text in given.items()]
    path.write_text("basic_auth_users:\n" + "".join(lines))


def test_a_file_that_cannot_be_used_at_the_start_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    with pytest.raises(ConfigError, match="cannot be read"):
        Watched(path)
    path.write_text("tls_server_config: {cert_file: none.pem, key_file: none.key}")
    with pytest.raises(ConfigError, match=f"{tmp_path}/none.pem cannot be read"):
        Watched(path)


def test_users_come_and_go_with_the_file_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    users(path, alice=HASH)
    watched = Watched(path)
    assert watched.knows("alice:s3cret")
    assert watched.file.gate() is watched.file.gate()  # not read again
    users(path, alice="s3cret")
    assert [watched.knows("alice:s3cret") for _ in range(3)] == [True] * 3
    (problem,) = watched.problems  # told once
    assert "not hashed with bcrypt" in problem.message
    users(path, bob=HASH)
    assert not watched.knows("alice:s3cret")
    assert watched.knows("bob:s3cret")
    path.unlink()
    assert watched.knows("bob:s3cret")
    assert "cannot be read" in watched.problems[1].message


def test_a_new_certificate_is_taken_once_its_key_is_there(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}")
    watched = Watched(path)
    first = watched.file.gate().context
    assert watched.file.gate().context is first
    key = pair.key_file.read_bytes()
    authority.issue("server")
    new_key = pair.key_file.read_bytes()
    pair.key_file.write_bytes(key)  # halfway through a renewal
    assert watched.file.gate().context is first
    assert "is not the key of the certificate" in watched.problems[0].message
    pair.key_file.write_bytes(new_key)
    assert watched.file.gate().context is not first
    assert len(watched.problems) == 1
