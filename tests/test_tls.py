from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.errors import ConfigError
from edgeq.tls import ServerTls, TlsOptions, client_context, names_of, objections, server_context
from tests.certificates import Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("server")


def options(pair: Pair, ca_file: Path | None = None) -> TlsOptions:
    if ca_file is None:
        return TlsOptions(pair.cert_file, pair.key_file)
    return TlsOptions(pair.cert_file, pair.key_file, ca_file, "required")


def talk(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1") -> Met:
    """One connection of each context over asyncio, as a listener has it; what the two saw."""
    return asyncio.run(asyncio.wait_for(_talk(server, client, name), 10))


class Met:
    """What each end knows of the other once a byte went both ways."""

    def __init__(self, client: ssl.SSLObject, server: ssl.SSLObject) -> None:
        self.serial = client.getpeercert()["serialNumber"]  # type: ignore[index]
        self.version = client.version()
        self.alpn = client.selected_alpn_protocol()
        self.client_names = names_of(server.getpeercert())


async def _talk(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> Met:
    seen: list[ssl.SSLObject] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("ssl_object"))
        writer.write(await reader.readexactly(1))
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server)
    try:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=name
        )
        try:
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            return Met(writer.get_extra_info("ssl_object"), seen[0])
        finally:
            writer.close()
    finally:
        listener.close()


REFUSED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


# ---- contexts


def test_a_client_that_trusts_the_authority_connects_by_name_and_by_address(authority, pair):
    server, client = server_context(options(pair)), client_context(authority.ca_file, None, None)
    for name in ("localhost", "127.0.0.1"):
        met = talk(server, client, name)
        assert (met.version, met.alpn) == ("TLSv1.3", "http/1.1")


def test_a_client_that_trusts_others_or_asks_for_another_name_does_not(authority, pair, tmp_path):
    server = server_context(options(pair))
    for client, name in (
        (client_context(Authority(tmp_path, "other").ca_file, None, None), "localhost"),
        (client_context(None, None, None), "localhost"),
        (client_context(authority.ca_file, None, None), "elsewhere"),
    ):
        with pytest.raises(ssl.SSLCertVerificationError):
            talk(server, client, name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the old version that is asked for
def test_tls_before_1_2_is_refused(authority, pair):
    client = client_context(authority.ca_file, None, None)
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(REFUSED):
        talk(server_context(options(pair)), client)


def test_the_ciphers_of_tls_1_2_are_those_named(authority, pair):
    name = "ECDHE-ECDSA-AES256-GCM-SHA384"
    server = server_context(
        replace(options(pair), ciphers=name, maximum_version=ssl.TLSVersion.TLSv1_2)
    )
    client = client_context(authority.ca_file, None, None)
    assert talk(server, client).version == "TLSv1.2"
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises(REFUSED):
        talk(server, client)


# ---- client certificates


def test_mutual_tls_takes_certificates_of_its_authority_alone(authority, pair, tmp_path):
    server = server_context(options(pair, authority.ca_file))
    names = ("scraper", "10.0.0.7", "me@box", "spiffe://edge/scraper", "fe80::7")
    good = authority.issue("client", names, is_client=True)
    client = client_context(authority.ca_file, good.cert_file, good.key_file)
    assert talk(server, client).client_names == set(names)
    strange = Authority(tmp_path, "other").issue("stranger", is_client=True)
    for files in ((strange.cert_file, strange.key_file), (None, None)):
        with pytest.raises(REFUSED):
            talk(server, client_context(authority.ca_file, *files))


def test_an_optional_certificate_may_be_absent_but_not_wrong(authority, pair, tmp_path):
    asked = replace(options(pair, authority.ca_file), client_certificate="optional")
    server = server_context(asked)
    assert talk(server, client_context(authority.ca_file, None, None)).client_names == set()
    strange = Authority(tmp_path, "other").issue("stranger", is_client=True)
    with pytest.raises(REFUSED):
        talk(server, client_context(authority.ca_file, strange.cert_file, strange.key_file))


def test_without_an_authority_of_its_own_the_system_s_are_asked(authority, pair):
    """As Go does it for exporter-toolkit's file without client_ca_file."""
    server = server_context(replace(options(pair), client_certificate="optional"))
    assert talk(server, client_context(authority.ca_file, None, None)).client_names == set()
    stranger = authority.issue("stranger", is_client=True)
    with pytest.raises(REFUSED):
        talk(server, client_context(authority.ca_file, stranger.cert_file, stranger.key_file))


def test_the_client_s_order_of_ciphers_counts_where_the_server_has_none(authority, pair):
    assert server_context(options(pair)).options & ssl.OP_CIPHER_SERVER_PREFERENCE
    given = replace(options(pair), prefers_own_order=False)
    assert not server_context(given).options & ssl.OP_CIPHER_SERVER_PREFERENCE


def test_nothing_at_all_is_no_certificate():
    assert names_of(None) == names_of({}) == frozenset()


# ---- reload


class Followed:
    """A listener's TLS whose problems are kept."""

    def __init__(self, given: TlsOptions) -> None:
        self.problems: list[ConfigError] = []
        self.tls = ServerTls(given, self.problems.append)

    def talk(self, client: ssl.SSLContext, name: str = "127.0.0.1") -> Met:
        return talk(self.tls.context, client, name)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_next_handshake_shows_a_renewed_certificate(name, authority, pair):
    followed = Followed(options(pair))
    client = client_context(authority.ca_file, None, None)
    first = followed.talk(client, name).serial
    assert followed.talk(client, name).serial == first
    authority.issue("server")
    assert followed.talk(client, name).serial != first


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_clients_of_an_authority_that_is_gone_are_refused(version, authority, pair, tmp_path):
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.ca_file.read_bytes())
    followed = Followed(options(pair, trusted))
    old = authority.issue("old", is_client=True)
    other = Authority(tmp_path, "other")
    new = other.issue("new", is_client=True)
    clients = [client_context(authority.ca_file, p.cert_file, p.key_file) for p in (old, new)]
    for client in clients:
        client.maximum_version = version
    assert followed.talk(clients[0])
    with pytest.raises(REFUSED):
        followed.talk(clients[1])
    trusted.write_bytes(other.ca_file.read_bytes())
    assert followed.talk(clients[1])
    with pytest.raises(REFUSED):
        followed.talk(clients[0])


def test_halfway_through_a_renewal_the_old_files_stay_in_force(authority, pair):
    followed = Followed(options(pair))
    client = client_context(authority.ca_file, None, None)
    first = followed.talk(client).serial
    old_key = pair.key_file.read_bytes()
    authority.issue("server")
    new_key = pair.key_file.read_bytes()
    pair.key_file.write_bytes(old_key)
    for _ in range(3):
        assert followed.talk(client).serial == first
    (problem,) = followed.problems  # told once
    assert "is not the key of the certificate" in problem.message
    with pytest.raises(ConfigError, match="is not the key of the certificate"):
        followed.tls.reload()
    pair.key_file.write_bytes(new_key)
    followed.tls.reload()
    assert followed.talk(client).serial != first
    assert len(followed.problems) == 1


def test_the_files_are_those_named(authority, pair):
    assert options(pair).paths == (pair.cert_file, pair.key_file)
    assert options(pair, authority.ca_file).paths[2:] == (authority.ca_file,)


# ---- what is wrong


def failure(given: TlsOptions) -> str:
    with pytest.raises(ConfigError) as caught:
        server_context(given)
    assert caught.value.hint
    return caught.value.message


def test_a_file_that_is_not_there_is_named(authority, pair, tmp_path):
    missing = tmp_path / "none.pem"
    for changed in ({"cert_file": missing}, {"key_file": missing}, {"client_ca_file": missing}):
        given = replace(options(pair, authority.ca_file), **changed)
        assert failure(given) == f"{missing} cannot be read: No such file or directory"


def test_a_key_of_another_certificate_names_both(authority, pair):
    other = authority.issue("other")
    assert failure(TlsOptions(pair.cert_file, other.key_file)) == (
        f"{other.key_file} is not the key of the certificate {pair.cert_file}"
    )


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_passphrase(authority):
    locked = authority.issue("locked", passphrase=b"secret")
    assert failure(options(locked)).startswith(f"{locked.key_file} is encrypted")


def test_files_in_each_other_s_place_are_told(pair):
    assert "holds no certificate" in failure(TlsOptions(pair.key_file, pair.key_file))
    assert "holds no private key" in failure(TlsOptions(pair.cert_file, pair.cert_file))


@pytest.mark.parametrize("field", ["cert_file", "key_file", "client_ca_file"])
@pytest.mark.parametrize("keep", [60, 10_000])  # cut short, or whole with another content
def test_a_damaged_file_is_named(keep, field, authority, pair):
    given = options(pair, authority.ca_file)
    path: Path = getattr(given, field)
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([first, *(line[::-1] for line in rest[:-1]), rest[-1]])[:keep])
    assert str(path) in failure(given)


# ---- what a person should know


def test_a_sound_certificate_gives_no_cause_for_objection(authority, pair):
    assert objections(options(pair, authority.ca_file)) == ()


@pytest.mark.parametrize(("days", "said"), [(-1.0, "certificate has expired"), (5.0, "GMT on")])
def test_a_certificate_that_is_or_will_soon_be_expired_is_told(days, said, authority):
    (told,) = objections(options(authority.issue("old", days=days)))
    assert "old.pem is a certificate that clients refuse: " in told
    assert said in told


def test_a_certificate_for_clients_is_told(authority):
    (told,) = objections(options(authority.issue("client", is_client=True)))
    assert "unsuitable certificate purpose" in told or "unsupported" in told


def test_a_key_that_everybody_may_read_is_told(pair):
    pair.key_file.chmod(0o644)
    (told,) = objections(options(pair))
    assert "server.key is a private key that every user may read" in told
