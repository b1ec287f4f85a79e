"""Prometheus' web-config.yml (exporter-toolkit's format) -> who may scrape /metrics, and how.

The format is docs/web-configuration.md of prometheus/exporter-toolkit. What Python's TLS cannot do
is an error here and not passed over: a file that is taken is in force, whole.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, Strict, model_validator

from edgeq.config.document import read_document
from edgeq.config.fields import AbsolutePath, Section
from edgeq.config.validation import validate
from edgeq.observe.web_access import RateLimit, WebAccess
from edgeq.tls import ClientCertificate, TlsOptions

# Go's names of what its crypto/tls offers by choice for TLS 1.2 -> OpenSSL's.
CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
TLS_1_3_CIPHERS = frozenset(  # always on, in Go as in Python
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
)
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
POLICIES: Mapping[str, ClientCertificate] = {
    "": "none",
    "NoClientCert": "none",
    "VerifyClientCertIfGiven": "optional",
    "RequireAndVerifyClientCert": "required",
}
UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
HEADERS: Mapping[str, tuple[str, ...]] = {  # -> the values allowed; none: any
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
BCRYPT_HASH = re.compile(r"\$2[aby]\$(0[4-9]|1\d|2\d|3[01])\$[./A-Za-z0-9]{53}")
UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
DURATION = re.compile(rf"(?:{DURATION_PART.pattern})+")

Boolean = Annotated[bool, Strict()]


def _version(value: str) -> str:
    if value not in VERSIONS:
        raise ValueError(f"expected {' or '.join(VERSIONS)}; older ones are not safe")
    return value


def _policy(value: str) -> str:
    if value in UNVERIFIED:
        raise ValueError("a certificate that nobody verifies; expected RequireAndVerifyClientCert")
    if value not in POLICIES:
        raise ValueError(f"expected one of {', '.join(filter(None, POLICIES))}")
    return value


def _ciphers(value: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in value if name not in CIPHERS and name not in TLS_1_3_CIPHERS]
    if unknown:
        raise ValueError(f"{unknown[0]} is no cipher suite that can be chosen")
    return value


def _as_text(value: object) -> object:
    """As the toolkit reads `X-XSS-Protection: 1`."""
    if not isinstance(value, dict):
        return value
    return {name: str(text) if type(text) is int else text for name, text in value.items()}


def _headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if name not in HEADERS:
            raise ValueError(f"{name!r} cannot be set; expected one of {', '.join(HEADERS)}")
        if HEADERS[name] and text not in HEADERS[name]:
            raise ValueError(f"{name} is {text!r}; expected {' or '.join(HEADERS[name])}")
        if not text.isprintable() or not text.isascii():
            raise ValueError(f"{name} is {text!r}, which no header can carry")
    return value


def _seconds(value: object) -> object:
    """Read a duration as Go writes it; a bare number but 0 would be nanoseconds there."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    if not isinstance(value, str) or not DURATION.fullmatch(value):
        raise ValueError("expected a duration such as 1s or 500ms")
    return sum(float(number) * UNITS_S[unit] for number, unit in DURATION_PART.findall(value))


Version = Annotated[str, AfterValidator(_version)]


class TlsServer(Section):
    """`tls_server_config`."""

    cert_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    client_auth_type: Annotated[str, AfterValidator(_policy)] = "NoClientCert"
    client_ca_file: AbsolutePath | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: Annotated[tuple[str, ...], AfterValidator(_ciphers)] = ()
    prefer_server_cipher_suites: Boolean = True
    # Part of the format, and refused: OpenSSL loads files, and takes a single curve.
    cert: Any = None
    key: Any = None
    client_ca: Any = None
    curve_preferences: Any = None

    @model_validator(mode="after")
    def _is_possible(self) -> TlsServer:
        """Told by the section: the words about a key would show its value."""
        for name in ("cert", "key", "client_ca"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} cannot be given inline; name a file with {name}_file")
        if self.curve_preferences is not None:
            raise ValueError("curve_preferences cannot be chosen; leave it out")
        return self

    @model_validator(mode="after")
    def _is_whole(self) -> TlsServer:
        """The toolkit's rules, and one that it leaves to chance: names nobody looks at."""
        asks = POLICIES[self.client_auth_type] != "none"
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together; one is missing")
        if self.cert_file is None and (asks or self.client_ca_file is not None):
            raise ValueError("client certificates need a cert_file and key_file of the server's")
        if self.client_ca_file is not None and not asks:
            raise ValueError("client_ca_file is set without a client_auth_type that verifies")
        if self.client_allowed_sans and not asks:
            raise ValueError(
                "client_allowed_sans needs client_auth_type RequireAndVerifyClientCert"
            )
        if VERSIONS[self.min_version] > VERSIONS[self.max_version]:
            raise ValueError(f"min_version {self.min_version} is above {self.max_version}")
        return self

    @property
    def options(self) -> TlsOptions | None:
        """What TLS is made of, or None for plain TCP."""
        if self.cert_file is None or self.key_file is None:
            return None
        chosen = [CIPHERS[name] for name in self.cipher_suites if name in CIPHERS]
        has_older = not self.cipher_suites or chosen
        return TlsOptions(
            self.cert_file,
            self.key_file,
            self.client_ca_file,
            POLICIES[self.client_auth_type],
            minimum_version=VERSIONS[self.min_version if has_older else "TLS13"],
            maximum_version=VERSIONS[self.max_version],
            ciphers=":".join(chosen),
            prefers_own_order=self.prefer_server_cipher_suites,
        )


class HttpServer(Section):
    """`http_server_config`; HTTP/2 is never offered, and a client that has it falls back."""

    http2: Boolean = True
    headers: Annotated[dict[str, str], AfterValidator(_headers), BeforeValidator(_as_text)] = Field(
        default_factory=dict
    )


class Rate(Section):
    """`rate_limit`: a token bucket."""

    interval: Annotated[float, BeforeValidator(_seconds)] = 0.0
    burst: Annotated[int, Strict(), Field(ge=0)] = 0

    @property
    def limit(self) -> RateLimit | None:
        """What is allowed, or None for any rate."""
        return RateLimit(self.interval, self.burst) if self.interval else None


class WebConfig(Section):
    """The whole file; all of it may be missing."""

    tls_server_config: TlsServer = TlsServer()
    http_server_config: HttpServer = HttpServer()
    basic_auth_users: dict[str, str] = Field(default_factory=dict)
    rate_limit: Rate = Rate()

    @model_validator(mode="after")
    def _passwords_are_hashed(self) -> WebConfig:
        """Told by the file: the words about the key would show what may be a password."""
        for name, text in self.basic_auth_users.items():
            if ":" in name:
                raise ValueError(f"basic_auth_users: {name!r} holds a colon, which ends a name")
            if not BCRYPT_HASH.fullmatch(text):
                raise ValueError(
                    f"basic_auth_users: the password of {name!r} is not hashed with bcrypt; "
                    "`htpasswd -nBC 10 NAME` makes a hash"
                )
        return self


def read_web_config(path: Path) -> WebAccess:
    """Read a web-config.yml; relative paths count from its folder.

    Raises:
        ConfigError: names file, line, key and what was expected.
    """
    config = validate(WebConfig, read_document(path))
    return WebAccess(
        tls=config.tls_server_config.options,
        allowed_names=frozenset(config.tls_server_config.client_allowed_sans),
        users=dict(config.basic_auth_users),
        headers=dict(config.http_server_config.headers),
        rate_limit=config.rate_limit.limit,
    )
