"""What keeps a box from building, or hangs in it, is the first thing a person reads."""

from __future__ import annotations

from edgeq.observe.page.element import to_html
from edgeq.observe.page.overview import attention, headline
from tests.observe.statuses import a_status

SAFE_MODE = {"reason": "edgeq died 3 times", "since": 0.0, "ends_in_s": 1500.0, "engines": "none"}


def test_safe_mode_says_why_and_how_it_ends() -> None:
    status = {**a_status(), "safe_mode": SAFE_MODE}
    html = to_html(attention(status))
    assert "edgeq died 3 times" in html
    assert "25 min" in html
    assert "edgeq resume" in html
    assert headline(status).startswith("safe mode, ")
    assert "Nothing needs you" not in html


def test_a_stuck_thread_is_named_with_what_it_does() -> None:
    stuck = [{"thread": "deploy_0", "doing": "Deployer.load", "seconds": 1300}]
    html = to_html(attention({**a_status(), "safe_mode": None, "stuck": stuck}))
    assert "deploy_0" in html
    assert "1,300 s" in html
    assert "Deployer.load" in html


def test_without_either_nothing_is_said_of_it() -> None:
    assert "safe mode" not in to_html(attention(a_status()))
