from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from edgeq.config import read_web_config
from edgeq.errors import ConfigError
from edgeq.observe.web_access import RateLimit, WebAccess
from edgeq.tls import TlsOptions
from tests.certificates import Authority

HASH = "$2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze"
FILES = "cert_file: server.pem, key_file: server.key"
WHOLE = f"""\
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: authority.pem
  client_allowed_sans: [scraper, spiffe://edge/scraper]
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
    X-XSS-Protection: 1
    Strict-Transport-Security: max-age=31536000; includeSubDomains
basic_auth_users:
  alice: {HASH}
rate_limit:
  interval: 1s
  burst: 20
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


def read(path: Path, text: str) -> WebAccess:
    path.write_text(text)
    return read_web_config(path)


def test_every_key_is_taken(path: Path) -> None:
    folder = path.parent
    tls = TlsOptions(
        folder / "server.pem",
        folder / "server.key",
        folder / "authority.pem",
        "required",
        maximum_version=ssl.TLSVersion.TLSv1_2,
        ciphers="ECDHE-ECDSA-AES256-GCM-SHA384",
        prefers_own_order=False,
    )
    assert read(path, WHOLE) == WebAccess(
        tls=tls,
        allowed_names=frozenset({"scraper", "spiffe://edge/scraper"}),
        users={"alice": HASH},
        headers={
            "X-Frame-Options": "deny",
            "X-XSS-Protection": "1",
            "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
        },
        rate_limit=RateLimit(1.0, 20),
    )


@pytest.mark.parametrize("text", ["", "tls_server_config:\nbasic_auth_users: {}\n"])
def test_an_empty_file_leaves_everything_open(text: str, path: Path) -> None:
    assert read(path, text) == WebAccess()


def test_promtool_takes_the_same_file(path: Path, prometheus_tools: Path) -> None:
    authority = Authority(path.parent)
    authority.issue("server")
    # Debian's promtool of 2.42 is older than these two keys
    older = WHOLE.replace("  client_allowed_sans: [scraper, spiffe://edge/scraper]\n", "")
    path.write_text(older.split("rate_limit:")[0])
    command = [prometheus_tools / "promtool", "check", "web-config", path]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (checked.returncode, checked.stderr) == (0, f"{path} SUCCESS\n")
    assert read_web_config(path).users


def test_suites_of_tls_1_3_alone_are_tls_1_3_alone(path: Path) -> None:
    given = f"tls_server_config: {{{FILES}, cipher_suites: [TLS_AES_128_GCM_SHA256]}}"
    tls = read(path, given).tls
    assert tls is not None
    assert (tls.minimum_version, tls.ciphers) == (ssl.TLSVersion.TLSv1_3, "")


@pytest.mark.parametrize(("kind", "asked"), [("NoClientCert", "none"), ("''", "none"),
                                             ("VerifyClientCertIfGiven", "optional")])  # fmt: skip
def test_client_certificates_are_asked_for_as_go_names_it(kind: str, asked: str, path: Path):
    tls = read(path, f"tls_server_config: {{{FILES}, client_auth_type: {kind}}}").tls
    assert tls is not None
    assert tls.client_certificate == asked


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("1m30s", 90.0), ("1.5s", 1.5), ("2h", 7200.0), ("250us", 0.00025)],
)
def test_a_rate_s_interval_is_written_as_go_writes_it(text: str, seconds: float, path: Path):
    limit = read(path, f"rate_limit: {{interval: {text}, burst: 1}}").rate_limit
    assert limit is not None
    assert limit.interval_s == pytest.approx(seconds)


def test_an_interval_of_zero_is_no_limit(path: Path) -> None:
    for zero in ("0", "0s"):
        assert read(path, f"rate_limit: {{interval: {zero}, burst: 5}}").rate_limit is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tls_config: {}", "key 'tls_config' is unknown"),
        ("tls_server_config: {cert: a}", "cert cannot be given inline; name a file with cert_file"),
        ("tls_server_config: {key: secret}", "key cannot be given inline"),
        ("tls_server_config: {cert_file: a}", "cert_file and key_file go together"),
        ("tls_server_config: {client_auth_type: RequireAndVerifyClientCert}", "need a cert_file"),
        (f"tls_server_config: {{{FILES}, client_ca_file: a}}", "without a client_auth_type"),
        (f"tls_server_config: {{{FILES}, client_allowed_sans: [a]}}", "client_allowed_sans needs"),
        (f"tls_server_config: {{{FILES}, client_auth_type: RequireAnyClientCert}}", "nobody"),
        (f"tls_server_config: {{{FILES}, client_auth_type: Sometimes}}", "expected one of"),
        (f"tls_server_config: {{{FILES}, min_version: TLS10}}", "expected TLS12 or TLS13"),
        (f"tls_server_config: {{{FILES}, min_version: TLS13, max_version: TLS12}}", "above TLS12"),
        (f"tls_server_config: {{{FILES}, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}}", "RC4"),
        (f"tls_server_config: {{{FILES}, curve_preferences: [X25519]}}", "cannot be chosen"),
        ("http_server_config: {headers: {X-Powered-By: a}}", "'X-Powered-By' cannot be set"),
        ("http_server_config: {headers: {X-Frame-Options: allow}}", "expected deny or sameorigin"),
        ('http_server_config: {headers: {X-XSS-Protection: "1\\r\\nA: b"}}', "no header can carry"),
        ("http_server_config: {http2: maybe}", "'maybe'; expected a boolean"),
        ("basic_auth_users: {'a:b': x}", "holds a colon"),
        ("rate_limit: {interval: soon}", "expected a duration"),
        ("rate_limit: {interval: 5}", "expected a duration"),
        ("rate_limit: {interval: 1s, burst: -1}", "greater than or equal to 0"),
    ],
)
def test_a_wrong_key_is_named_with_file_and_line(text: str, said: str, path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(path, text)
    assert caught.value.message.startswith(f"{path}:1: ")
    assert said in caught.value.message
    assert caught.value.hint


def test_what_may_be_a_password_or_a_key_is_not_shown(path: Path) -> None:
    for text in ("basic_auth_users: {alice: plainpass}", "tls_server_config: {key: plainpass}"):
        with pytest.raises(ConfigError) as caught:
            read(path, text)
        assert "plainpass" not in caught.value.message
