"""What people ask for (pin, rollback, unload) in the middle of builds, probations and drops."""

from __future__ import annotations

import shutil

import pytest

from edgeq.daemon.admin import AdminCommands
from edgeq.errors import InvalidRequestError, NotFoundError, RegistryError, VersionError
from tests.daemon.conftest import fill, install, states


def test_a_pin_ends_a_build_and_its_drop_is_taken_again_after_it(house, digits, built, images):
    house.drop(digits / "digits.tflite")
    deployment = install(house, built)
    fill(house, images)
    house.drop(digits / "digits_v2.tflite")
    assert deployment.state == "building"
    house.deployer.pin("digits")
    assert (deployment.version, deployment.building, deployment.arriving) == ("2", None, None)
    house.deployer.build_ended(house.ended.get(timeout=60))  # too late
    house.scanner.forget("digits")
    house.drop(digits / "digits_v2.tflite")
    assert not house.builder.is_pending("digits")
    house.deployer.unpin("digits")
    house.scanner.forget("digits")
    house.drop(digits / "digits_v2.tflite")
    assert house.builder.is_pending("digits")


def test_after_an_unpin_the_samples_that_came_meanwhile_are_used(house, digits, images):
    deployment = house.drop(digits / "digits.tflite")
    house.deployer.pin("digits")
    fill(house, images)
    house.deployer.consider_build(deployment, "samples")
    assert not house.builder.is_pending("digits")
    house.deployer.unpin("digits")
    assert house.builder.is_pending("digits")


def test_a_rollback_calls_a_build_off_and_keeps_its_drop_in_quarantine(
    house, digits, built, images
):
    house.drop(digits / "digits.tflite")
    deployment = install(house, built)
    fill(house, images)
    house.drop(digits / "digits_v2.tflite")
    assert deployment.state == "building"
    with pytest.raises(RegistryError):
        house.deployer.rollback("digits", "asked for", to=99)
    assert deployment.state == "building"  # nothing has changed
    house.deployer.rollback("digits", "asked for")
    assert (deployment.version, deployment.state, deployment.building) == ("1", "serving", None)
    (entry,) = house.context.quarantine.entries()
    assert (entry.stage, entry.error) == ("called off", "called off by a rollback to version 1")
    house.scanner.forget("digits")
    house.drop(digits / "digits_v2.tflite")
    assert deployment.version == "1"  # not by itself, not after a restart either
    house.context.registry.forget_drop("digits", entry.sha256)  # a person's retry
    house.scanner.forget("digits")
    house.drop(digits / "digits_v2.tflite")
    assert deployment.version == "3"


def test_a_rollback_to_what_is_no_version_is_refused_and_nothing_changes(house, digits):
    house.drop(digits / "digits.tflite")
    commands = AdminCommands(house.context, house.deployer, lambda f: f(), dict, lambda _: None)
    for to in ("\u00b2", "\u0663", "9" * 30, 10**30, 1.5, True, "", [1]):
        with pytest.raises(InvalidRequestError, match="is not a number"):
            commands.call("rollback", {"name": "digits", "to": to}, b"")
    for to in (None, 9, "10" + "0" * 16):
        with pytest.raises(VersionError):
            commands.call("rollback", {"name": "digits", "to": to}, b"")
    with pytest.raises(InvalidRequestError, match="action 'burn' is unknown"):
        commands.call("samples", {"name": "digits", "action": "burn"}, b"")
    assert states(house) == ["committed"]


def test_a_version_whose_bundle_was_removed_cannot_be_gone_back_to(house, digits):
    for number in range(7):
        house.drop(digits / ("digits_v2.tflite" if number % 2 else "digits.tflite"))
        for sha256 in {v.model_sha256 for v in house.context.registry.versions("digits")}:
            house.context.registry.forget_drop("digits", sha256)
    deployment = house.deployer.deployments["digits"]
    with pytest.raises(RegistryError, match=r"has no version 1; it has \[3, 4, 5, 6, 7\]"):
        house.deployer.rollback("digits", "asked for", to=1)
    assert deployment.state == "probation"  # the watch goes on
    assert house.deployer.rollback("digits", "asked for", to=3).version == 3
    assert deployment.version == "3"


def test_an_unload_in_mid_build_keeps_the_drop(house, digits, built, images):
    house.drop(digits / "digits.tflite")
    install(house, built)
    fill(house, images)
    house.drop(digits / "digits_v2.tflite")
    house.deployer.unload("digits")
    assert house.context.quarantine.entries()[0].error == "called off by an unload"
    house.deployer.load("digits")
    assert house.deployer.deployments["digits"].version == "2"


def test_a_drop_that_another_thread_admitted_twice_is_deployed_once(house, digits):
    shutil.copy(digits / "digits.tflite", house.context.config.models_dir / "digits.tflite")
    (candidate,) = house.scanner.scan().settled
    first, second = house.deployer.admit(candidate), house.deployer.admit(candidate)
    assert house.deployer.deploy(candidate, first)
    assert house.deployer.deploy(candidate, second)
    assert states(house) == ["committed"]
    assert not list(house.context.paths.staging.iterdir())


def test_a_pin_while_a_drop_is_admitted_keeps_it_out(house, digits):
    house.drop(digits / "digits.tflite")
    shutil.copy(digits / "digits_v2.tflite", house.context.config.models_dir / "digits.tflite")
    (candidate,) = house.scanner.scan().settled
    received = house.deployer.admit(candidate)
    house.deployer.pin("digits")
    house.deployer.deploy(candidate, received)
    assert states(house) == ["committed"]


def test_a_box_without_room_has_the_drop_tried_again(house, digits, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgeq.intake.admit.files.copy_durably", refuse)
    shutil.copy(digits / "digits.tflite", house.context.config.models_dir / "digits.tflite")
    (candidate,) = house.scanner.scan().settled
    assert not house.deployer.take(candidate)
    assert not house.context.quarantine.entries()
    monkeypatch.undo()
    assert house.deployer.take(candidate)
    assert states(house) == ["committed"]


def test_a_file_that_another_took_the_place_of_meanwhile_is_not_deployed(house, digits):
    """As where a load by request came between: the folder shows what is served."""
    house.drop(digits / "digits.tflite")
    shutil.copy(digits / "digits_v2.tflite", house.context.config.models_dir / "digits.tflite")
    (candidate,) = house.scanner.scan().settled
    received = house.deployer.admit(candidate)
    content = (digits / "digits.tflite").read_bytes()
    house.plane.load("digits", files={"model.tflite": content})
    assert house.deployer.deploy(candidate, received)
    assert states(house) == ["committed"]
    for again in house.scanner.scan().settled:
        house.deployer.take(again)
    assert (house.context.config.models_dir / "digits.tflite").read_bytes() == content
    assert states(house) == ["committed"]


def test_the_report_of_a_built_version_is_given_and_of_a_dropped_one_is_not(house, digits, built):
    house.drop(digits / "digits.tflite")
    install(house, built)
    commands = AdminCommands(house.context, house.deployer, lambda f: f(), dict, lambda _: None)
    assert commands.report("digits", "2") == (built / "report.html").read_bytes()
    with pytest.raises(NotFoundError, match="has no report: it serves as it was dropped"):
        commands.report("digits", "1")
    for name, version in (("digits", "3"), ("digits", "../2"), ("nobody", "1")):
        with pytest.raises(NotFoundError, match="has no version"):
            commands.report(name, version)
