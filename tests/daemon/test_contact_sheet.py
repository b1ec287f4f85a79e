"""`edgeq samples NAME show`, at the daemon's side."""

from __future__ import annotations

import pytest

from edgeq.daemon.admin import AdminCommands
from edgeq.errors import InvalidRequestError
from tests.daemon.conftest import fill


def test_a_model_s_newest_samples_are_shown_by_its_sidecar(house, digits, images):
    house.drop(digits / "digits.tflite")
    fill(house, images[:5])
    commands = AdminCommands(house.context, house.deployer, lambda f: f(), dict, lambda _: None)
    asked = {"name": "digits", "action": "show", "limit": 3}
    sheet = commands.call("samples", asked, b"")
    assert (sheet["name"], sheet["total"], len(sheet["samples"])) == ("digits", 5, 3)
    assert sheet["inputs"] == {"image": "pixels as they are"}
    for limit in (0, -1, "3", True):
        with pytest.raises(InvalidRequestError, match="argument 'limit'"):
            commands.call("samples", {**asked, "limit": limit}, b"")
