from __future__ import annotations

from edgeq.config import Config, describe_changes
from edgeq.config.changes import NEEDS_RESTART
from edgeq.config.fields import leaves


def test_nothing_changed_is_empty():
    assert describe_changes(Config(), Config()).is_empty


def test_changes_are_told_apart_by_whether_a_reload_applies_them():
    new = Config.model_validate(
        {
            "models_dir": "/m",
            "server": {"http_port": 1, "auth": {"token_file": "/t"}},
            "swap": {"probation": {"window_s": 1}},
            "log": {"level": "debug"},
        }
    )
    changes = describe_changes(Config(), new)
    assert changes.needs_restart == ("models_dir", "server.http_port", "server.auth.token_file")
    assert changes.applied == ("swap.probation.window_s", "log.level")
    assert not changes.is_empty


def test_what_needs_a_restart_are_keys_that_exist():
    keys = {".".join(key[:depth]) for key, _ in leaves(Config) for depth in (1, 2, 3)}
    assert set(NEEDS_RESTART) <= keys
