"""What a build child is asked for, as its own command line reads it."""

from __future__ import annotations

from pathlib import Path

from edgeq.cli import make_parser
from edgeq.daemon.jobs import make_job
from tests.daemon.conftest import House


def test_a_name_like_an_option_reaches_the_child_as_a_name(house: House, digits: Path):
    deployment = house.drop(digits / "digits.tflite", "-rf")
    job = make_job(house.context, deployment, "samples")
    given = make_parser("build").parse_args(["build", *job.arguments, "--out", "there"])
    assert given.name == "-rf"
    assert given.samples == deployment.store.directory
    assert given.agreement == house.context.config.verify.agreement
