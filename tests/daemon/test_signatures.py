"""With public keys configured, only what their owners signed comes in, and nothing older."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from edgeq.errors import InvalidRequestError
from tests.daemon.conftest import House, states
from tests.minisign import Signer


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
def strict(house: House, signer: Signer) -> House:
    """A daemon that takes what `signer` signed."""
    trust(house, signer)
    return house


def trust(house: House, *signers: Signer) -> None:
    keys = tuple(each.public_key for each in signers)
    config = house.context.config
    security = config.security.model_copy(update={"public_keys": keys})
    house.context.config = config.model_copy(update={"security": security})


def sign(house: House, signer: Signer, source: Path, comment: str) -> None:
    """Put a signed model into the drop folder, and let it be taken in."""
    folder = house.context.config.models_dir
    signature = signer.sign(source.read_bytes(), comment)
    (folder / "digits.tflite.minisig").write_bytes(signature)
    shutil.copy(source, folder / "digits.tflite")
    scan(house)


def scan(house: House) -> None:
    for candidate in house.scanner.scan().settled:
        house.deployer.take(candidate)


def reasons(house: House) -> list[str]:
    entries = house.context.quarantine.entries()
    assert {entry.stage for entry in entries} <= {"signature"}
    return [entry.error for entry in entries]


def test_a_drop_that_is_not_signed_is_quarantined(strict, digits):
    shutil.copy(digits / "digits.tflite", strict.context.config.models_dir)
    scan(strict)
    assert reasons(strict) == ["digits.tflite is not signed; one of 1 public keys has to"]
    assert "digits" not in strict.deployer.deployments


def test_a_signature_that_comes_later_lets_it_in(strict, signer, digits):
    shutil.copy(digits / "digits.tflite", strict.context.config.models_dir)
    scan(strict)
    sign(strict, signer, digits / "digits.tflite", "model:digits version:1")
    assert states(strict) == ["committed"]
    (accepted,) = (e for e in strict.context.registry.events() if e.kind == "accepted")
    assert accepted.message.endswith(", signed as version 1 by key 807060504030201")


def test_an_older_release_is_refused_and_the_newer_one_goes_on(strict, signer, digits):
    sign(strict, signer, digits / "digits_v2.tflite", "model:digits version:2")
    sign(strict, signer, digits / "digits.tflite", "model:digits version:1")
    assert reasons(strict) == ["it is signed as version 1; a newer one was accepted as 2"]
    assert strict.deployer.deployments["digits"].version == "1"


def test_another_file_under_the_same_version_is_refused(strict, signer, digits):
    sign(strict, signer, digits / "digits.tflite", "model:digits version:1")
    sign(strict, signer, digits / "digits_v2.tflite", "model:digits version:1")
    assert reasons(strict) == ["it is signed as version 1; another file was accepted as 1"]


def test_keys_rotate_by_being_configured_side_by_side(strict, signer, digits):
    new = Signer(id=b"new key!")
    trust(strict, signer, new)
    sign(strict, signer, digits / "digits.tflite", "model:digits version:1")
    sign(strict, new, digits / "digits_v2.tflite", "model:digits version:2")
    assert reasons(strict) == []
    trust(strict, new)
    sign(strict, signer, digits / "digits.tflite", "model:digits version:3")
    assert reasons(strict) == [
        "it is signed by key 807060504030201; those that count are 2179656B2077656E"
    ]


def test_a_sidecar_counts_only_as_it_was_signed(strict, signer, digits):
    folder = strict.context.config.models_dir
    (folder / "digits.yaml").write_text("gate: {agreement: 0.99}\n")
    digest = hashlib.sha256((folder / "digits.yaml").read_bytes()).hexdigest()
    sign(strict, signer, digits / "digits.tflite", f"model:digits version:1 sidecar:{digest}")
    assert strict.deployer.deployments["digits"].sidecar.gate.agreement == 0.99
    (folder / "digits.yaml").write_text("gate: {agreement: 0.01}\n")
    scan(strict)
    assert strict.deployer.deployments["digits"].sidecar.gate.agreement == 0.99
    (reason,) = reasons(strict)
    assert reason.startswith("its sidecar has the SHA-256 ")
    assert reason.endswith(f"; it was signed with {digest}")


def test_a_sidecar_that_was_signed_cannot_be_left_out(strict, signer, digits):
    comment = f"model:digits version:1 sidecar:{'ab' * 32}"
    sign(strict, signer, digits / "digits.tflite", comment)
    assert reasons(strict) == [f"it has no sidecar; it was signed with {'ab' * 32}"]


def test_a_model_in_a_load_call_is_signed_like_a_drop(strict, signer, digits):
    content = (digits / "digits.tflite").read_bytes()
    with pytest.raises(InvalidRequestError, match="is not signed"):
        strict.plane.load("digits", files={"1/model.tflite": content})
    signature = signer.sign(content, "model:digits version:4")
    files = {"1/model.tflite": content, "1/model.tflite.minisig": signature}
    strict.plane.load("digits", files=files)
    shown = strict.context.config.models_dir / "digits.tflite.minisig"
    assert shown.read_bytes() == signature
    assert not list(strict.context.paths.staging.iterdir())
    release = strict.context.registry.newest_signed("digits")
    assert release is not None
    assert release.version == 4


def test_without_keys_nothing_needs_a_signature(house, digits):
    house.drop(digits / "digits.tflite")
    assert states(house) == ["committed"]
    assert house.context.registry.newest_signed("digits") is None
