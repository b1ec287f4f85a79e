from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.errors import DropError
from edgeq.intake.signature import PublicKey, verify
from tests.minisign import Signer

ROOT = Path(__file__).resolve().parents[2]
MODEL = b"the model" * 100
Minisign = Callable[..., None]

COMMENT = "timestamp:1700000000\tfile:face.tflite\thashed"


@pytest.fixture
def signer() -> Signer:
    return Signer()


def check(
    path: Path, signer: Signer, signature: bytes | None, *, model: bytes = MODEL, name: str = "face"
):
    (path / "copy").write_bytes(model)
    if signature is not None:
        (path / "face.tflite.minisig").write_bytes(signature)
    key = PublicKey.parse(signer.public_key)
    given = None if signature is None else path / "face.tflite.minisig"
    return verify(name, path / "copy", given, [key])


def refusal(*arguments, **options) -> str:
    with pytest.raises(DropError) as caught:
        check(*arguments, **options)
    assert caught.value.stage == "signature"
    assert caught.value.hint
    assert not caught.value.sha256, "another signature may let the same bytes in"
    return caught.value.message


@pytest.mark.parametrize("legacy", [False, True])
def test_what_minisign_says_by_itself_is_enough(tmp_path, signer, legacy):
    signed = check(tmp_path, signer, signer.sign(MODEL, COMMENT, legacy=legacy))
    assert (signed.model, signed.version, signed.sidecar_sha256) == ("face", 1700000000, "")
    assert signed.key == "807060504030201"


def test_model_and_version_of_the_owner_go_before_file_and_timestamp(tmp_path, signer):
    comment = f"{COMMENT} model:face version:7 sidecar:{'AB' * 32}"
    signed = check(tmp_path, signer, signer.sign(MODEL, comment))
    assert (signed.version, signed.sidecar_sha256) == (7, "ab" * 32)


def test_an_empty_file_can_be_signed(tmp_path, signer):
    for legacy in (False, True):
        check(tmp_path, signer, signer.sign(b"", COMMENT, legacy=legacy), model=b"")


def test_a_drop_without_a_signature_is_refused(tmp_path, signer):
    assert refusal(tmp_path, signer, None) == (
        "face.tflite is not signed; one of 1 public keys has to"
    )


def test_a_changed_model_is_refused(tmp_path, signer):
    signature = signer.sign(MODEL, COMMENT)
    for legacy in (False, True):
        signature = signer.sign(MODEL, COMMENT, legacy=legacy)
        assert "does not fit" in refusal(tmp_path, signer, signature, model=MODEL + b"!")


def test_a_changed_trusted_comment_is_refused(tmp_path, signer):
    signature = signer.sign(MODEL, COMMENT).replace(b"1700000000", b"1800000000")
    assert "does not fit" in refusal(tmp_path, signer, signature)


def test_another_key_with_the_same_id_is_refused(tmp_path, signer):
    assert "does not fit" in refusal(tmp_path, signer, Signer().sign(MODEL, COMMENT))


def test_a_key_that_is_not_configured_is_named(tmp_path, signer):
    other = Signer(id=b"\xff" * 8)
    message = refusal(tmp_path, signer, other.sign(MODEL, COMMENT))
    assert message == f"it is signed by key {'FF' * 8}; those that count are 807060504030201"


def test_the_signature_of_another_model_is_refused(tmp_path, signer):
    signature = signer.sign(MODEL, COMMENT)
    assert refusal(tmp_path, signer, signature, name="tone") == (
        "it is signed as model 'face'; it was dropped as 'tone'"
    )


@pytest.mark.parametrize(
    "said", ["", "version:", "version:-1", "version:1e9", "version:" + "9" * 19]
)
def test_a_signature_without_a_version_is_refused(tmp_path, signer, said):
    message = refusal(tmp_path, signer, signer.sign(MODEL, f"model:face {said}"))
    assert "has no version and no timestamp" in message


def test_an_unknown_algorithm_is_refused(tmp_path, signer):
    signature = signer.sign(MODEL, COMMENT).splitlines(keepends=True)
    signature[1] = b"WFg" + signature[1][3:]
    assert "algorithm b'XX'" in refusal(tmp_path, signer, b"".join(signature))


@pytest.mark.parametrize(
    "signature",
    [b"", b"\n\n\n\n", b"x" * 20_000, b"untrusted comment: a\nRWQ=\ntrusted comment: b\nRWQ=\n"],
)
def test_what_is_no_signature_is_refused(tmp_path, signer, signature):
    assert "not a minisign signature" in refusal(tmp_path, signer, signature)


def test_a_signature_that_is_a_link_is_refused(tmp_path, signer):
    (tmp_path / "copy").write_bytes(MODEL)
    (tmp_path / "real").write_bytes(signer.sign(MODEL, COMMENT))
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(DropError, match="cannot be read"):
        verify("face", tmp_path / "copy", tmp_path / "link", [PublicKey.parse(signer.public_key)])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_signature_with_one_changed_byte_never_counts(tmp_path, place, value):
    signer = Signer()
    whole = signer.sign(MODEL, COMMENT)
    start = len(b"untrusted comment: signature from a test\n")  # this line is what its name says
    damaged = bytearray(whole)
    place = start + place % (len(whole) - start - 1)
    damaged[place] ^= value
    refusal(tmp_path, signer, bytes(damaged))


@pytest.mark.parametrize("text", ["", "RW", "RWQ=", "x" * 56, "RW" + "!" * 54])
def test_what_is_no_public_key_is_refused(text):
    with pytest.raises(ValueError, match="minisign's public key"):
        PublicKey.parse(text)


def test_a_public_key_may_have_spaces_around_it(signer):
    assert PublicKey.parse(f" {signer.public_key}\n") == PublicKey.parse(signer.public_key)


# ---- Debian's minisign


@pytest.fixture(scope="module")
def minisign() -> Minisign:
    fetch = [ROOT / "tools" / "fetch_debian", "minisign", "minisign", "libsodium23"]
    fetched = subprocess.run(fetch, capture_output=True, text=True, timeout=120, check=False)
    if fetched.returncode:
        pytest.skip(f"minisign cannot be had: {fetched.stderr.strip()[-200:]}")
    programs = Path(fetched.stdout.strip())
    libraries = ":".join(map(str, (programs.parent / "lib").glob("*-linux-gnu*")))
    environ = {**os.environ, "LD_LIBRARY_PATH": libraries}

    def run(folder: Path, *arguments: str) -> None:
        command = [programs / "minisign", *arguments]
        subprocess.run(
            command, cwd=folder, env=environ, check=True, capture_output=True, timeout=30
        )

    return run


@pytest.mark.parametrize("flags", [[], ["-l"], ["-t", "model:face version:3"]])
def test_what_minisign_signs_counts(tmp_path, minisign, flags):
    (tmp_path / "face.tflite").write_bytes(MODEL)
    minisign(tmp_path, "-G", "-W", "-p", "key.pub", "-s", "key")
    minisign(tmp_path, "-S", "-s", "key", "-m", "face.tflite", *flags)
    key = PublicKey.parse((tmp_path / "key.pub").read_text().splitlines()[1])
    signed = verify("face", tmp_path / "face.tflite", tmp_path / "face.tflite.minisig", [key])
    assert signed.version == 3 if "-t" in flags else signed.version > 1_700_000_000
    assert signed.key == (tmp_path / "key.pub").read_text().splitlines()[0].split()[-1]


@pytest.mark.parametrize("legacy", [False, True])
def test_minisign_takes_the_signatures_that_count_here(tmp_path, minisign, signer, legacy):
    (tmp_path / "face.tflite").write_bytes(MODEL)
    (tmp_path / "face.tflite.minisig").write_bytes(signer.sign(MODEL, COMMENT, legacy=legacy))
    minisign(tmp_path, "-V", "-P", signer.public_key, "-m", "face.tflite")
    (tmp_path / "face.tflite").write_bytes(MODEL + b"!")
    with pytest.raises(subprocess.CalledProcessError):
        minisign(tmp_path, "-V", "-P", signer.public_key, "-m", "face.tflite")
