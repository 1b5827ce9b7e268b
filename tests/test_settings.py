"""Config file < environment < command line, and what is refused."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmengine import log
from llmengine.config import Config
from llmengine.errors import ConfigError
from llmengine.options import options
from llmengine.settings import Settings, load, values


def write(text: str | bytes, path: str = "config.toml") -> Path:
    Path(path).write_bytes(text if isinstance(text, bytes) else text.encode())
    return Path(path)


def refusal(**arguments: object) -> list[str]:
    arguments.setdefault("environ", {})
    with pytest.raises(ConfigError) as caught:
        load(**arguments)  # type: ignore[arg-type]
    return caught.value.message.split("\n")


def from_environment(**environ: str) -> Settings:
    return load(environ=environ)


# Where a value comes from


def test_nothing_given_means_the_defaults() -> None:
    settings = load(environ={})
    assert settings.config == Config()
    assert settings.file is None
    assert set(settings.sources.values()) == {"default"}
    assert list(settings.sources) == list(options())


def test_each_source_overrides_the_one_before() -> None:
    write("[server]\nhost = 'file'\nport = 1\nmax_queue = 1\nmax_body_mb = 1\n")
    settings = load(
        {"server.max_body_mb": 4, "server.api_key": None},
        assignments=["server.max_queue=3", "server.max_body_mb=3"],
        environ={
            "LLM_ENGINE_PORT": "2",
            "LLM_ENGINE_SERVER__MAX_QUEUE": "2",
            "LLM_ENGINE_SERVER__MAX_BODY_MB": "2",
        },
    )
    server = settings.config.server
    assert (server.host, server.port, server.max_queue, server.max_body_mb) == ("file", 2, 3, 4)
    assert {path: source for path, source in settings.sources.items() if source != "default"} == {
        "server.host": "config.toml:2",
        "server.port": "LLM_ENGINE_PORT",
        "server.max_queue": "--set server.max_queue",
        "server.max_body_mb": "--max-body-mb",
    }


def test_the_config_file_is_searched_in_order(home: Path) -> None:
    users = home / "config" / "llmengine"
    users.mkdir(parents=True)
    write("[server]\nport = 4\n", str(users / "config.toml"))
    assert load(environ={}).config.server.port == 4
    write("[server]\nport = 3\n")
    assert load(environ={}).config.server.port == 3
    named = {"LLM_ENGINE_CONFIG": str(write("[server]\nport = 2\n", "named.toml"))}
    assert load(environ=named).config.server.port == 2
    given = write("[server]\nport = 1\n", "given.toml")
    assert load(environ=named, path=given).config.server.port == 1
    assert load(environ=named, path=given).file == given


def test_every_option_has_a_variable() -> None:
    for path, option in options().items():
        assert option.env == "LLM_ENGINE_" + path.replace(".", "__").upper()
        text = (
            "1" if option.default in (None, "", ()) else values.to_toml(option.default).strip('"')
        )
        for name in filter(None, (option.env, option.alias)):
            assert load(environ={name: text}).sources[path] == name


def test_the_short_variables() -> None:
    config = from_environment(
        LLM_ENGINE_HOST="0.0.0.0",
        LLM_ENGINE_PORT="9000",
        LLM_ENGINE_API_KEY="k",
        LLM_ENGINE_MODEL_PATH="m.gguf",
        LLM_ENGINE_DEVICE="cpu",
        LLM_ENGINE_MAX_SEQUENCE_LENGTH="2048",
        LLM_ENGINE_CACHE_ENABLED="no",
        LLM_ENGINE_CACHE_SIZE_MB="64",
        LLM_ENGINE_LOG_LEVEL="debug",
    ).config
    assert (config.server.host, config.server.port, config.server.api_key) == ("0.0.0.0", 9000, "k")
    assert (config.model.model_path, config.model.device) == ("m.gguf", "cpu")
    assert config.model.max_sequence_length == 2048
    assert (config.cache.enabled, config.cache.max_size_mb) == (False, 64)
    assert config.logging.level == "debug"


def test_an_empty_variable_counts_as_unset() -> None:
    write("[server]\napi_key = 'k'\n")
    settings = from_environment(LLM_ENGINE_API_KEY="", LLM_ENGINE_PORT="", LLM_ENGINE_CONFIG="")
    assert settings.config.server.api_key == "k"
    assert settings.config.server.port == 8000


# How text becomes a value


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("server.enable_cors", "YES", True),
        ("server.enable_cors", "on", True),
        ("server.enable_cors", "1", True),
        ("cache.enabled", "Off", False),
        ("cache.enabled", "0", False),
        ("server.drain_seconds", "2", 2.0),
        ("sampling.temperature", "1e-1", 0.1),
        ("sampling.seed", "42", 42),
        ("sampling.stop", "a, b", ("a", "b")),
        ("sampling.stop", '["a, b", "\\n", "  "]', ("a, b", "\n", "  ")),
        ("sampling.stop", "", ()),
        ("model.tensor_split", "3,1", (3.0, 1.0)),
        ("model.tensor_split", "[3, 1]", (3.0, 1.0)),
        ("sampling.logit_bias", '{"5": -100}', {5: -100.0}),
        ("model.model_path", "a,b=[c].gguf", "a,b=[c].gguf"),
    ],
)
def test_text_is_read_as_the_options_type(path: str, text: str, value: object) -> None:
    section, key = path.split(".")
    for settings in (
        load(environ={options()[path].env: text}),
        load(environ={}, assignments=[f"{path}={text}"]),
        load({path: text}, environ={}),
    ):
        assert getattr(getattr(settings.config, section), key) == value


def test_toml_tables_and_lists() -> None:
    write("[sampling]\nstop = ['x']\nlogit_bias = {7 = 1}\nseed = 3\n")
    sampling = load(environ={}).config.sampling
    assert (sampling.stop, sampling.logit_bias, sampling.seed) == (("x",), {7: 1.0}, 3)


# What is refused


def test_a_wrong_value_names_file_line_and_range() -> None:
    write("# mine\n[server]\nhost = 'x'\nport = 99999\n\n[model]\ndevice = 'gpu'\n")
    assert refusal() == [
        "config.toml:4: server.port must be an integer from 0 to 65535, not 99999",
        "config.toml:7: model.device must be one of auto, cpu, cuda, metal, rocm, vulkan, "
        'not "gpu"',
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("port = '80'", 'server.port must be an integer from 0 to 65535, not "80"'),
        ("port = true", "server.port must be an integer from 0 to 65535, not true"),
        ("port = 1.5", "server.port must be an integer from 0 to 65535, not 1.5"),
        ("port = -1", "server.port must be an integer from 0 to 65535, not -1"),
        ("port = []", "server.port must be an integer from 0 to 65535, not []"),
        ("port = 1979-05-27", "server.port must be an integer from 0 to 65535, not 1979-05-27"),
        ("port = {a = 1}", 'server.port must be an integer from 0 to 65535, not {"a" = 1}'),
        ("drain_seconds = nan", "server.drain_seconds must be a number from 0 to 86400, not nan"),
        ("drain_seconds = inf", "server.drain_seconds must be a number from 0 to 86400, not inf"),
        ("enable_cors = 1", "server.enable_cors must be true or false, not 1"),
        ("enable_cors = 'yes'", 'server.enable_cors must be true or false, not "yes"'),
        ("host = 1", "server.host must be a string, not 1"),
        ('host = "a\\u0000"', "server.host must be a string without NUL bytes and invalid UTF-8"),
        ("cors_origins = 'x'", 'server.cors_origins must be a list of strings, not "x"'),
        ("cors_origins = [1]", "server.cors_origins must be a list of strings, not [1]"),
    ],
)
def test_wrong_types_in_a_file(line: str, problem: str) -> None:
    write(f"[server]\n{line}\n")
    assert refusal() == [f"config.toml:2: {problem}"]


@pytest.mark.parametrize(
    ("path", "text", "allowed"),
    [
        ("server.port", "80x", "an integer from 0 to 65535"),
        ("server.port", "1" * 400, "an integer from 0 to 65535"),
        ("sampling.repeat_penalty", "0", "a number above 0 and at most 100"),
        ("sampling.temperature", "nan", "a number from 0 to 100"),
        ("sampling.seed", "-1", "an integer from 0 to 4294967295"),
        ("cache.enabled", "maybe", "true or false"),
        ("sampling.stop", " ", "a list of strings of at most 256 characters, 16 at most"),
        ("sampling.stop", '[""]', "a list of strings of at most 256 characters, 16 at most"),
        ("sampling.stop", ",".join("abcdefghijklmnopq"), "a list of strings of at most 256 char"),
        ("model.tensor_split", "3,x", "a list of numbers of at least 0, 16 at most"),
        ("sampling.logit_bias", "{", "a table from integers of at least 0 to numbers from -100"),
        ("sampling.logit_bias", "[" * 9999, "a table from integers of at least 0 to numbers"),
        ("sampling.logit_bias", '{"x": 1}', "a table from integers of at least 0 to numbers"),
        ("metrics.endpoint", "metrics", 'a string like "/metrics"'),
        ("model.model_path", "\udcff", "a string"),
    ],
)
def test_wrong_text(path: str, text: str, allowed: str) -> None:
    variable = options()[path].env
    (problem,) = refusal(environ={variable: text})
    assert problem.startswith(f"{variable}: {path} must be {allowed}")
    assert len(problem) < 250
    (problem,) = refusal(assignments=[f"{path}={text}"])
    assert problem.startswith(f"--set {path}: {path} must be {allowed}")
    (problem,) = refusal(flags={path: text})
    assert problem.startswith(f"--{options()[path].flag}: {path} must be {allowed}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[server]\nprot = 1",
            "config.toml:2: no such setting server.prot; did you mean server.port?",
        ),
        (
            "[server]\ntop_k = 1",
            "config.toml:2: no such setting server.top_k; did you mean sampling.top_k?",
        ),
        ("[sever]\nport = 1", "config.toml:1: no such setting sever; did you mean server?"),
        ("port = 1", "config.toml:1: no such setting port; did you mean server.port?"),
        (
            "[server]\nzzz = 1",
            "config.toml:2: no such setting server.zzz; `llmengine config options` lists all",
        ),
        ("server = 1", "config.toml:1: server must be a table: [server]"),
        (
            "server.prot = 1",
            "config.toml:1: no such setting server.prot; did you mean server.port?",
        ),
        (
            "server = {prot = 1}",
            "config.toml:1: no such setting server.prot; did you mean server.port?",
        ),
        (
            "\n[ server ]\n'prot' = 1",
            "config.toml:3: no such setting server.prot; did you mean server.port?",
        ),
    ],
)
def test_unknown_names_in_a_file(text: str, problem: str) -> None:
    write(text)
    assert refusal()[0] == problem


def test_somebody_elses_config_toml_says_how_to_go_on() -> None:
    write('baseURL = "https://example.org/"\n')
    assert refusal() == [
        "config.toml:1: no such setting baseURL; `llmengine config options` lists all",
        "config.toml: not llmengine's? Name another with --config FILE or LLM_ENGINE_CONFIG",
    ]


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("LLM_ENGINE_PROT", "did you mean LLM_ENGINE_PORT?"),
        ("LLM_ENGINE_SERVER__PROT", "did you mean LLM_ENGINE_SERVER__PORT?"),
        ("LLM_ENGINE_CONFIGS", "did you mean LLM_ENGINE_CONFIG?"),
        ("LLM_ENGINE_XYZ_QQQQQQQ", "`llmengine config options` lists all"),
    ],
)
def test_unknown_variables(variable: str, near: str) -> None:
    assert refusal(environ={variable: "1"}) == [f"{variable}: no such setting; {near}"]


def test_variables_of_others_and_of_main_pass() -> None:
    environ = {"LLM_ENGINE_RAISE_ERRORS": "1", "LLM_ENGINES": "1", "PATH": "/bin"}
    assert load(environ=environ).config == Config()


def test_two_names_of_one_option_are_refused() -> None:
    environ = {"LLM_ENGINE_PORT": "1", "LLM_ENGINE_SERVER__PORT": "1"}
    assert refusal(environ=environ) == [
        "LLM_ENGINE_PORT and LLM_ENGINE_SERVER__PORT set the same; unset one of them"
    ]


def test_unknown_assignments() -> None:
    assert refusal(assignments=["server.prot=1"]) == [
        "--set: no such setting server.prot; did you mean server.port?"
    ]
    assert refusal(assignments=["server.port"]) == [
        "--set server.port: write --set section.key=value"
    ]


def test_all_problems_are_told_at_once() -> None:
    write("[server]\nport = -1\nhots = 'x'\n")
    assert refusal(environ={"LLM_ENGINE_DEVICE": "tpu"}, flags={"cache.max_size_mb": "-1"}) == [
        "config.toml:3: no such setting server.hots; did you mean server.host?",
        "config.toml:2: server.port must be an integer from 0 to 65535, not -1",
        "LLM_ENGINE_DEVICE: model.device must be one of auto, cpu, cuda, metal, rocm, vulkan, "
        'not "tpu"',
        '--max-size-mb: cache.max_size_mb must be an integer from 0 to 16777216, not "-1"',
    ]


def test_a_secret_is_never_shown() -> None:
    write("[server]\napi_key = 12345\n")
    assert refusal() == ["config.toml:2: server.api_key must be a string, not that value"]


def test_a_quantized_kv_cache_needs_flash_attention() -> None:
    write("[model]\nkv_type = 'q8_0'\n")
    assert load(environ={}).config.model.kv_type == "q8_0"
    assert refusal(flags={"model.flash_attention": "off"}) == [
        "config.toml:2: model.kv_type q8_0 needs flash attention, which --flash-attention turns "
        "off; set one of them otherwise"
    ]


# Files that are no config files


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b"[server\nport = 1",
            "given.toml: not TOML: Expected ']' at the end of a table declaration",
        ),
        (b"[server]\nport = 1\nport = 2", "given.toml: not TOML: Cannot overwrite a value"),
        (b"[server]\nhost = '\xff'", "given.toml:2: not UTF-8; save the file as UTF-8"),
        (b"[server]\nhost = '\0'", "given.toml: not TOML: Found invalid character '\\x00'"),
        (b"GGUF\x03\x00\x00", "given.toml: not TOML: "),
        (b"#" * (1 << 20) + b"\n", "given.toml: larger than 1 MiB; this is not a config file"),
        (b"a = " + b"[" * 100_000, "given.toml: "),
    ],
)
def test_broken_files(content: bytes, problem: str) -> None:
    path = write(content, "given.toml")
    (line,) = refusal(path=path)
    assert line.startswith(problem)


def test_a_byte_order_mark_is_no_fault() -> None:
    path = write(b"\xef\xbb\xbf[server]\r\nport = 1\r\n", "given.toml")
    assert load(environ={}, path=path).config.server.port == 1


def test_toml_errors_have_line_and_column() -> None:
    write("[server]\nport = \n")
    assert refusal()[0].endswith("(at line 2, column 8)")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    assert refusal(path=missing) == [
        f"{missing}: the config file cannot be read: No such file or directory"
    ]
    assert refusal(environ={"LLM_ENGINE_CONFIG": str(tmp_path)}) == [
        f"{tmp_path}: the config file cannot be read: Is a directory"
    ]
    assert refusal(path=Path("a\0b")) == [
        "a\0b: the config file cannot be read: embedded null byte"
    ]


def test_an_empty_file_and_a_device_are_fine() -> None:
    assert load(path=write(b""), environ={}).config == Config()
    assert load(path=Path("/dev/null"), environ={}).config == Config()


# What nobody thought of

fuzzed = hypothesis.settings(
    max_examples=200,
    suppress_health_check=list(hypothesis.HealthCheck),
)
TOML = st.text("[]{}='\"\\\n.,#0123456789-_:etrufalsnif servportmodlcache", max_size=60)


def problems(**arguments: object) -> list[str]:
    """What is refused, if anything; any other exception fails the test."""
    try:
        load(environ={}, **arguments)  # type: ignore[arg-type]
    except ConfigError as error:
        return error.message.split("\n")
    return []


@fuzzed
@given(st.one_of(st.binary(max_size=60), TOML.map(str.encode)))
@example(b'"server\\nx" = 1')
@example(b'[server]\n"\\u001b[2J" = 1')
def test_any_file_is_read_or_refused_in_single_lines(content: bytes) -> None:
    for line in problems(path=write(content, "given.toml")):
        assert line.startswith("given.toml:")
        assert log.printable(line) == line


@fuzzed
@given(st.sampled_from(list(options())), st.text(st.characters(), max_size=40))
def test_any_text_is_taken_or_refused_in_a_single_line(path: str, text: str) -> None:
    flag = options()[path].flag
    for line in problems(flags={path: text}):
        assert line.startswith(f"--{flag}: {path} must be ")
        assert log.printable(line) == line
