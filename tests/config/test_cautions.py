from __future__ import annotations

from pathlib import Path

import bcrypt
import pytest

from edgeq.config import Config, cautions, load
from tests.certificates import Authority
from tests.minisign import Signer

HASH = bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)).decode()
TLS = "tls: {cert_file: server.pem, key_file: server.key}"


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    Authority(tmp_path).issue("server")
    (tmp_path / "token").write_text("t")
    (tmp_path / "token").chmod(0o600)


def told(tmp_path: Path, server: str) -> tuple[str, ...]:
    path = tmp_path / "edgeq.yaml"
    path.write_text(f"server: {{{server}}}")
    return cautions(load(path, {}))


def test_the_defaults_are_no_cause_for_any() -> None:
    assert cautions(Config()) == ()


def test_a_token_over_tls_and_metrics_at_home_are_none(tmp_path: Path) -> None:
    given = f"host: 0.0.0.0, metrics_host: 127.0.0.1, auth: {{token_file: token}}, {TLS}"
    assert told(tmp_path, given) == ()


def test_a_token_in_the_clear_beyond_loopback_is_told(tmp_path: Path) -> None:
    given = "metrics_host: '::1', auth: {token_file: token}"
    assert told(tmp_path, given) == ()
    (one,) = told(tmp_path, f"host: 0.0.0.0, {given}")
    assert "the token travels in the clear" in one


def test_a_token_that_all_may_read_or_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "token").chmod(0o644)
    (one,) = told(tmp_path, "auth: {token_file: token}")
    assert one == f"{tmp_path}/token is a token that every user may read; chmod 600 it"
    (one,) = told(tmp_path, "auth: {token_file: none}")
    assert "cannot be read" in one


def test_what_is_wrong_with_certificates_is_told(tmp_path: Path) -> None:
    Authority(tmp_path).issue("server", days=-1)
    (one,) = told(tmp_path, TLS)
    assert "certificate has expired" in one
    (tmp_path / "server.key").unlink()
    (one,) = told(tmp_path, TLS)
    assert one == f"{tmp_path}/server.key cannot be read: No such file or directory"


def test_metrics_that_everyone_may_read_are_told(tmp_path: Path) -> None:
    (one,) = told(tmp_path, "metrics_host: 0.0.0.0")
    assert one.startswith("everyone who reaches '0.0.0.0' may read /metrics")
    (tmp_path / "web.yml").write_text("")  # which says so itself
    assert told(tmp_path, "metrics_host: 0.0.0.0, metrics_web_config: web.yml") == ()


def test_users_of_metrics_without_tls_are_told(tmp_path: Path) -> None:
    path, given = tmp_path / "web.yml", "metrics_host: 0.0.0.0, metrics_web_config: web.yml"
    path.write_text(f"basic_auth_users: {{alice: {HASH}}}\n")
    (one,) = told(tmp_path, given)
    assert one == f"{path} has users without TLS: their passwords travel in the clear"
    files = "cert_file: server.pem, key_file: server.key"
    path.write_text(f"{path.read_text()}tls_server_config: {{{files}}}")
    assert told(tmp_path, given) == ()
    path.write_text("users: {}")
    (one,) = told(tmp_path, given)
    assert "key 'users' is unknown" in one


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o700, None),
        (0o770, None),
        (0o705, "look at the samples in"),
        (0o755, "look at the samples in"),
        (0o777, "change what is in"),
        (0o1777, "change what is in"),
    ],
)
def test_a_state_folder_that_others_may_enter_is_told(
    tmp_path: Path, mode: int, said: str | None
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    found = cautions(Config(state_dir=state))
    assert [said in each and str(state) in each for each in found] == ([True] if said else [])


def test_a_drop_folder_that_all_may_write_to_is_told_unless_drops_are_signed(
    tmp_path: Path,
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    models.chmod(0o777)
    config = Config(models_dir=models, state_dir=tmp_path / "none")
    (one,) = cautions(config)
    assert "every user may drop models" in one
    keys = {"security": {"public_keys": [Signer().public_key]}}
    assert cautions(Config(models_dir=models, state_dir=tmp_path / "none", **keys)) == ()
