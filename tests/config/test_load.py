from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.config import Config, load
from edgeq.config.fields import leaves
from edgeq.config.load import CONFIG_VARIABLE, variable_name
from edgeq.errors import ConfigError


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "edgeq.yaml"
        path.write_text(text)
        return path

    return write


def failure(path: Path | None, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ)
    assert caught.value.hint
    return caught.value.message


def test_without_file_and_environment_everything_is_default():
    assert load(None, {"HOME": "/root"}) == Config()


def test_an_empty_file_and_empty_sections_are_the_defaults(write):
    assert load(write(""), {}) == Config()
    assert load(write("server:\nswap:\n  probation:\n"), {}) == Config()


def test_edgeq_config_names_the_file_and_an_argument_wins_over_it(write, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("server: {http_port: 1}")
    path = write("server: {http_port: 2}")
    assert load(None, {CONFIG_VARIABLE: str(path)}).server.http_port == 2
    assert load(other, {CONFIG_VARIABLE: str(path)}).server.http_port == 1


def test_a_missing_file_is_named(tmp_path):
    assert failure(tmp_path / "none.yaml") == (
        f"{tmp_path}/none.yaml cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("sever: {}", 1, "key 'sever' is unknown; did you mean 'server'?"),
        (
            "on_remove: keep\nserver:\n  htp_port: 1",
            3,
            "key 'server.htp_port' is unknown; did you mean 'server.http_port'?",
        ),
        ("http_port: 1", 1, "key 'http_port' is unknown; did you mean 'server.http_port'?"),
        ("log: {colour: 1}", 1, "key 'log.colour' is unknown; known here: format, level"),
        ("server:\n  http_port: '1'", 2, "key 'server.http_port' is '1'; expected an integer"),
        ("server: {timeout_s: true}", 1, "key 'server.timeout_s' is true; expected a number"),
        ("server: {host: null}", 1, "key 'server.host' is null; expected a string"),
        ("server:\n- 1", 1, "key 'server' is [1]; expected keys with values"),
        (
            "server: {http_port: 70000}",
            1,
            "key 'server.http_port' is 70000; expected less than or equal to 65535",
        ),
        ("on_remove: leave", 1, "key 'on_remove' is 'leave'; expected 'keep' or 'unload'"),
        (
            "samples: {max_bytes: 3 MB}",
            1,
            (
                "key 'samples.max_bytes' is '3 MB'; "
                "expected a number of bytes, or a size such as 64MiB"
            ),
        ),
        (
            "security: {public_keys: [k]}",
            1,
            (
                "key 'security.public_keys' is ['k']; expected minisign's public key: "
                "56 characters, beginning with RW"
            ),
        ),
        (
            "\nserver:\n  http_port: 5\n  metrics_port: 5",
            2,
            "http_port and metrics_port are both 5",
        ),
        ("samples: {minimum: 9, maximum: 8}", 1, "minimum 9 is above maximum 8"),
        ("state_dir: ''", 1, "key 'state_dir' is ''; expected a path"),
        ("verify: {sqnr_db: 1e999}", 1, "key 'verify.sqnr_db' is inf; expected a finite number"),
    ],
)
def test_a_wrong_key_says_file_line_key_actual_and_expected(write, text, line, said):
    path = write(text)
    assert failure(path) == f"{path}:{line}: {said}"


def test_every_wrong_key_is_reported_in_the_order_of_the_file(write):
    path = write("log: {level: loud}\nsever: {}\nswap:\n  threads: 0\n")
    lines = failure(path).splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{path}:1", f"{path}:2", f"{path}:4"]


def test_a_long_wrong_value_is_shown_shortened(write):
    assert len(failure(write(f"on_remove: {'x' * 500}"))) < 250


def test_sizes_are_bytes_or_binary_units(write):
    sizes = load(write("samples: {max_bytes: 7KiB}\nserver: {max_body_bytes: 9}"), {})
    assert (sizes.samples.max_bytes, sizes.server.max_body_bytes) == (7168, 9)


def test_relative_paths_count_from_the_file_and_from_the_shell(write, tmp_path, monkeypatch):
    path = write("state_dir: state")
    monkeypatch.chdir("/")
    assert load(path, {}).state_dir == tmp_path / "state"
    assert load(path, {"EDGEQ_STATE_DIR": "x"}).state_dir == Path("/x")


def test_the_socket_is_in_the_state_folder_unless_named(write):
    assert load(write("state_dir: /s"), {}).socket_path == Path("/s/edgeq.sock")
    assert load(write("server: {unix_socket: /u}"), {}).socket_path == Path("/u")


def test_the_socket_of_a_service_is_not_in_its_private_state_folder(write):
    assert load(write("state_dir: /var/lib/edgeq"), {}).socket_path == Path("/run/edgeq/edgeq.sock")
    other = load(write("state_dir: /var/lib/other"), {})
    assert other.socket_path == Path("/run/other/edgeq.sock")
    deeper = load(write("state_dir: /var/lib/other/state"), {})
    assert deeper.socket_path == Path("/var/lib/other/state/edgeq.sock")


def test_a_socket_path_that_linux_cannot_bind_is_refused(write):
    assert "Linux takes 107" in failure(write(f"state_dir: /{'s' * 100}"))


@pytest.mark.parametrize("key", [key for key, _ in leaves(Config)], ids=".".join)
def test_every_key_has_a_variable_that_overrides_it(key):
    try:
        heard = load(None, {variable_name(key): "/elsewhere"}) != Config()
    except ConfigError as error:
        heard = error.message.startswith(f"{variable_name(key)}: ") and key[-1] in error.message
    assert heard


def test_variable_names_are_unique():
    names = [variable_name(key) for key, _ in leaves(Config)]
    assert len(names) == len(set(names))


def test_the_environment_wins_over_the_file(write):
    environ = {
        "EDGEQ_SERVER_HTTP_PORT": "9000",
        "EDGEQ_SWAP_PROBATION_WINDOW_S": "5",
        "EDGEQ_SERVER_HOST": "::1",
        "EDGEQ_DRIFT_POLICY": "off",
        "EDGEQ_SAMPLES_MAX_BYTES": "1MiB",
        "EDGEQ_SECURITY_PUBLIC_KEYS": "[]",
        "EDGEQ_SERVER_UNIX_SOCKET": "/run/e.sock",
    }
    config = load(write("server:\n  http_port: 1\ndrift:\n"), environ)
    assert (config.server.http_port, config.server.host) == (9000, "::1")
    assert (config.swap.probation.window_s, config.drift.policy) == (5.0, "off")
    assert (config.samples.max_bytes, config.security.public_keys) == (1 << 20, ())
    assert config.socket_path == Path("/run/e.sock")


def test_an_empty_variable_means_null(write):
    config = load(write("server: {unix_socket: /a}"), {"EDGEQ_SERVER_UNIX_SOCKET": ""})
    assert config.server.unix_socket is None


def test_an_unknown_variable_is_an_error_with_the_nearest():
    assert failure(None, EDGEQ_SERVER_HTP_PORT="1") == (
        "the environment variable EDGEQ_SERVER_HTP_PORT is unknown; "
        "did you mean EDGEQ_SERVER_HTTP_PORT?"
    )


def test_a_wrong_variable_is_named_instead_of_a_line(write):
    assert failure(write("server: {http_port: 1}"), EDGEQ_SERVER_HTTP_PORT="x") == (
        "EDGEQ_SERVER_HTTP_PORT: key 'server.http_port' is 'x'; expected an integer"
    )


def test_a_variable_that_is_no_yaml_is_named():
    said = "EDGEQ_SERVER_HTTP_PORT: value:1: an alias is not taken here"
    assert failure(None, EDGEQ_SERVER_HTTP_PORT="[*a]") == said


def test_a_variable_below_a_section_that_is_no_section_leaves_the_file_to_blame(write):
    path = write("server: 3")
    assert failure(path, EDGEQ_SERVER_HTTP_PORT="1").startswith(f"{path}:1: key 'server' is 3;")


@given(st.text(max_size=80))
def test_any_text_is_a_configuration_or_a_config_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ConfigError):
        load(path, {})


def test_the_token_is_the_first_line_of_its_file(write, tmp_path):
    (tmp_path / "token").write_text(" s3cret \nrest\n")
    config = load(write("server: {auth: {token_file: token}}"), {})
    assert config.server.auth.read_token() == "s3cret"
    assert Config().server.auth.read_token() is None


@pytest.mark.parametrize("content", [None, "", "\n", "é\n"])
def test_a_token_file_without_a_token_is_an_error(write, tmp_path, content):
    if content is not None:
        (tmp_path / "token").write_text(content)
    auth = load(write("server: {auth: {token_file: token}}"), {}).server.auth
    with pytest.raises(ConfigError, match=r"server\.auth\.token_file"):
        auth.read_token()


def test_the_configuration_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        Config().server.http_port = 1
