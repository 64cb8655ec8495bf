"""The config: what loads, what is refused and how it is said, and that nothing but BadConfig ever comes out."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bestserve import profiles
from bestserve.policy.facts import SLO, TASKS, Budget
from bestserve.proxy import config as config_module
from bestserve.proxy.config import BackendConfig, BadConfig, Config, Key, Listen, PolicyConfig, Replay, SLOConfig, environment, load, parse

PROFILE = """
model = "Qwen/Qwen3-8B"
params_b = 8.2
gpu = "H100-80GB"
n_gpus = 1
capabilities = ["tools", "json"]
[engine]
prefill_tokens_per_s = 40000
prefill_fixed_s = 0.01
step_fixed_s = 0.007
step_per_seq_s = 0.00002
step_per_kv_token_s = 1e-8
max_running = 256
kv_tokens = 400000
context = 40960
prefill_batch_tokens = 16384
[quality]
""" + "\n".join(f"{task} = 0.7" for task in TASKS)

BACKEND = "{{name: {name}, url: 'http://10.0.0.1:30000', model: Qwen/Qwen3-8B, profile: here.toml}}"
SHA = "ab" * 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a config file, with one profile in it."""
    folder = tmp_path_factory.mktemp("config")
    (folder / "here.toml").write_text(PROFILE)
    return folder


def fleet(*names: str) -> str:
    return "backends:\n" + "".join(f"- {BACKEND.format(name=name)}\n" for name in names)


def read(folder: Path, text: str, **environ: str) -> Config:
    return parse(text, environ, source=str(folder / "c.yaml"))


def problems(folder: Path, text: str, **environ: str) -> list[str]:
    """The lines of what BadConfig says, without the folder."""
    with pytest.raises(BadConfig) as caught:
        read(folder, text, **environ)
    return str(caught.value).replace(f"{folder}/", "").split("\n")


def test_backends_are_enough(folder):
    """Everything else has a default, and `auto` is all of them."""
    config = read(folder, fleet("a", "b"))

    assert config.models == {"auto": ("a", "b")}
    assert (config.listen.host, config.listen.port, config.listen.workers) == ("127.0.0.1", 8000, 1)
    assert (config.listen.drain_s, config.listen.max_body_bytes) == (120, 32_000_000)
    assert config.budgets == (Budget(),)
    assert config.slo_for("default") == SLO(1.0, 0.060, None, hard=True)
    assert (config.policy.checkpoint, config.policy.fallback, config.policy.explore) == ("pretrained", "deadline-greedy", 0.0)
    assert (config.probe.interval_ms, config.timeouts.total_ms, config.circuit.failures) == (500, 600_000, 3)
    assert (config.keys, config.default_model, config.replay) == ((), None, None)
    assert config.log.level == "info"


def test_a_section_left_empty_stands_at_its_defaults(folder):
    """`listen:` with nothing behind it is as if it were not there."""
    assert read(folder, fleet("a") + "listen:\nkeys: []\nmodels:\n") == read(folder, fleet("a"))


def test_the_contracts_example_loads(folder):
    """The config section of the outside, as it is written there."""
    text = fleet("small", "medium", "large") + (
        "listen: {host: 127.0.0.1, port: 8000, workers: 1}\n"
        "models: {auto: [small, medium, large]}\n"
        'budgets: [none, 1024, {tokens: 384, instruction: "Answer in at most 200 words."}, 128]\n'
        "slo: {ttft_ms: 1000, tpot_ms: 60, kind: hard}\n"
        "policy: {checkpoint: pretrained, explore: 0.03, fallback: bid-price, dir: ./policies}\n"
        "replay: {dir: ./replay, upload: s3://bucket/prefix}\n"
        f"keys: [{{name: team-a, sha256: {SHA}, tier: default, requests_per_minute: 600}}]\n"
    )

    config = read(folder, text)

    assert [budget.name for budget in config.budgets] == ["none", "1024", "384", "128"]
    assert config.budgets[2].instruction == "Answer in at most 200 words."
    assert config.policy.dir == folder / "policies"
    assert config.replay is not None
    assert config.replay.dir == folder / "replay"
    assert config.replay.upload == "s3://bucket/prefix"
    assert config.keys[0].requests_per_minute == 600


@pytest.mark.parametrize(("key", "value", "extra"), [("upload", "s3://bucket", "upload"), ("compression", "zstd", "zstd")])
def test_what_needs_a_library_that_is_not_there_says_which_extra_brings_it(folder, monkeypatch, key, value, extra):
    """Before anything is served."""
    monkeypatch.setattr(config_module, "find_spec", lambda name: None)
    monkeypatch.setattr(config_module.segments, "has_zstd", lambda: False)
    assert problems(folder, fleet("a") + f"replay: {{{key}: '{value}'}}")[0].endswith(f"`pip install 'bestserve[{extra}]'`")


def test_limits_of_the_log_are_told_in_what_it_counts_in(folder):
    """Bytes and seconds; without a limit, infinitely many."""
    replay = read(folder, fleet("a") + "replay: {segment_mb: 0.5, segment_min: 2, fsync_ms: 20, max_gb: 2, max_days: 1}").replay
    assert (replay.segment_bytes, replay.segment_s, replay.fsync_s, replay.most_bytes, replay.most_age_s) == (
        500_000,
        120,
        0.02,
        2e9,
        86_400,
    )
    unlimited = read(folder, fleet("a") + "replay: {}").replay
    assert (unlimited.most_bytes, unlimited.most_age_s) == (float("inf"), float("inf"))
    assert unlimited.dir == folder / "replay"


def test_the_shipped_example_loads():
    """`deploy/bestserve.example.yaml` is a config, and names profiles that ship."""
    config = load({}, Path(__file__).parents[2] / "deploy" / "bestserve.example.yaml")

    assert [backend.profile.name for backend in config.backends] == ["qwen3-1.7b-h100", "qwen3-8b-h100", "qwen3-32b-h100"]
    assert config.default_model == "auto"
    assert config.backends[0].api_key is None


def test_what_the_policy_knows_of_a_backend_comes_from_its_profile_unless_said(folder):
    """`capabilities` and `context` override the profile; the rest of it stays."""
    text = fleet("a") + BACKEND.format(name="b").replace("{name", "- {capabilities: [vision], context: 4096, name")

    a, b = read(folder, text).facts()

    assert (a.name, a.model, a.profile.name) == ("a", "Qwen/Qwen3-8B", "here")
    assert (a.capabilities, a.profile.engine.context) == ({"tools", "json"}, 40960)
    assert (b.capabilities, b.profile.engine.context) == ({"vision"}, 4096)
    assert b.profile.engine.kv_tokens == a.profile.engine.kv_tokens


SLOS = """
slo:
  ttft_ms: 800
  e2e_ms: 9000
  tiers: {flex: {ttft_ms: null, kind: soft}, priority: {weight: 5}}
  tasks: {code: {ttft_ms: 3000, e2e_ms: 60000, tpot_ms: none}}
"""


@pytest.mark.parametrize(
    ("tier", "task", "slo"),
    [
        ("default", None, SLO(0.8, 0.060, 9.0, hard=True)),
        ("auto", "qa", SLO(0.8, 0.060, 9.0, hard=True)),
        ("default", "code", SLO(3.0, None, 60.0, hard=True)),
        ("flex", None, SLO(None, 0.060, 9.0, hard=False)),
        ("flex", "code", SLO(None, None, 60.0, hard=False)),
        ("priority", "code", SLO(3.0, None, 60.0, hard=True)),
    ],
)
def test_a_tiers_deadline_holds_before_the_tasks_and_that_before_everybodys(folder, tier, task, slo):
    """A key that an override does not write changes nothing; null lifts the deadline."""
    assert read(folder, fleet("a") + SLOS).slo_for(tier, task) == slo


def test_a_tier_is_worth_what_is_written_or_its_usual(folder):
    """Half for flex, one for default and auto, two for priority."""
    usual, written = read(folder, fleet("a")), read(folder, fleet("a") + SLOS)

    assert [usual.weight_for(tier) for tier in ("flex", "default", "auto", "priority")] == [0.5, 1, 1, 2]
    assert [written.weight_for(tier) for tier in ("flex", "default", "auto", "priority")] == [0.5, 1, 1, 5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listen: {prot: 80}", "c.yaml:3: listen.prot: unknown key; did you mean listen.port?"),
        ("polcy: {}", "c.yaml:3: polcy: unknown key; did you mean policy?"),
        ("xyzzy: 1", "c.yaml:3: xyzzy: unknown key"),
        ("listen: {port: abc}", "c.yaml:3: listen.port: must be a whole number, is 'abc'"),
        ("listen: {port: 1.5}", "c.yaml:3: listen.port: must be a whole number, is '1.5'"),
        ("listen: {port: '80'}", "c.yaml:3: listen.port: must be a whole number, is '80'"),
        ("listen: {port: 080}", "c.yaml:3: listen.port: must be a whole number, is '080'"),
        ("listen: {port: true}", "c.yaml:3: listen.port: must be a whole number, is 'true'"),
        ("listen: {port: [80]}", "c.yaml:3: listen.port: must be a whole number, is a list"),
        ("listen: {port: 70000}", "c.yaml:3: listen.port: must be at most 65535, is '70000'"),
        ("listen: {port: 0x50}", "c.yaml:3: listen.port: must be a whole number, is '0x50'"),
        ("replay: {compression: lz4}", "c.yaml:3: replay.compression: must be 'gzip', 'zstd' or 'none', is 'lz4'"),
        ("replay: {fsync_ms: 0}", "c.yaml:3: replay.fsync_ms: must be at least 10, is '0'"),
        ("replay: {max_gb: 0}", "c.yaml:3: replay.max_gb: must be at least 0.001, is '0'"),
        ("replay: {secret: magpie}", "c.yaml:3: replay.secret: must be at least 16 characters without spaces"),
        ("replay: {upload: /tmp}", "c.yaml:3: replay.upload: must be a URL that starts with one of s3://, gs://, az://, file://"),
        ("listen: 3", "c.yaml:3: listen: must be a mapping, is '3'"),
        ("listen: {host: {}}", "c.yaml:3: listen.host: must be text, is a mapping"),
        ("listen: {host: no}", "c.yaml:3: listen.host: must be text, is 'no'; write it in quotes if it is meant"),
        ("listen: {host: }", "c.yaml:3: listen.host: must be text, is empty; write it in quotes if it is meant"),
        ("listen: {port: !x 3}", "c.yaml:3: listen.port: a tag like !x is not read"),
        ("listen: !!python/object:os.system {}", "c.yaml:3: listen: a tag like tag:yaml.org,2002:python/object:os.system is not read"),
        ("slo: {kind: hrd}", "c.yaml:3: slo.kind: must be 'hard' or 'soft', is 'hrd'; did you mean hard?"),
        ("policy: {explore: 0.5}", "c.yaml:3: policy.explore: must be at most 0.2, is '0.5'"),
        ("policy: {explore: .nan}", "c.yaml:3: policy.explore: must be a number, is '.nan'"),
        ("models: {auto: [a, bb]}", "c.yaml:3: models.auto[1]: 'bb' is no backend"),
        ("models:\n  auto:\n    - a\n    - a", "c.yaml:6: models.auto[1]: is the same as models.auto[0]"),
        ("models: {auto: []}", "c.yaml:3: models.auto: must not be empty"),
        ("models: {a: [a]}", "c.yaml:2: backends[0].name: 'a' is also an alias in models"),
        ("default_model: atuo", "c.yaml:3: default_model: 'atuo' is no alias; did you mean auto?"),
        ("budgets: []", "c.yaml:3: budgets: must not be empty"),
        ("budgets: [none, 12, 12]", "c.yaml:3: budgets[2]: is the same as budgets[1]"),
        ("budgets: [0]", "c.yaml:3: budgets[0]: must be at least 1, is '0'"),
        ("budgets: [{instruction: Be brief.}]", "c.yaml:3: budgets[0].tokens: is missing"),
        ("slo: {tiers: {flexx: {}}}", "c.yaml:3: slo.tiers.flexx: must be 'flex', 'default' or 'priority', is 'flexx'; did you mean flex?"),
        ("slo: {tasks: {code: {ttft: 3}}}", "c.yaml:3: slo.tasks.code.ttft: unknown key; did you mean slo.tasks.code.ttft_ms?"),
        ("policy: {fallback: static:b}", "c.yaml:3: policy.fallback: 'b' is no backend"),
        ("policy: {fallback: static:a@9}", "c.yaml:3: policy.fallback: '9' is none of the budgets, which are none"),
        ("keys: [{name: k, sha256: abc}]", "c.yaml:3: keys[0].sha256: must be the 64 hex digits of the key's SHA-256"),
        ("log: {}\nlog: {}", "c.yaml:4: log: written twice; first on line 3"),
        ("log: {level: info, level: info}", "c.yaml:3: log.level: written twice; first on line 3"),
        ("model_list: []", "c.yaml:3: model_list: this is a LiteLLM config: `bestserve import FILE` prints it as one of ours"),
        ("? [a]\n: 1", "c.yaml:3: a key must be a single word, is a list"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_key(folder, text, said):
    """And what is wrong with it, with the nearest right word where there is one."""
    found = problems(folder, fleet("a") + text)

    assert len(found) == 1
    assert found[0].startswith(said)
    assert found[0] == said or said.endswith(" ")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("url", "ftp://10.0.0.1", "must be a URL like http://10.0.0.1:30000"),
        ("url", "10.0.0.1:30000", "must be a URL like http://10.0.0.1:30000"),
        ("url", "http://h:99999", "must be a URL like http://10.0.0.1:30000: invalid port number"),
        ("url", "'http://[::1'", "must be a URL like http://10.0.0.1:30000: invalid IPv6 address"),
        ("url", '"http://h\\n/"', "must be a URL like http://10.0.0.1:30000"),
        ("url", "http://user:magpie@h", "must not hold a user or a password; use api_key"),
        ("url", "http://h/?x=1", "must not have a query or a fragment"),
        ("url", "http://h:0", "must be a URL like http://10.0.0.1:30000"),
        ("url", "http://user:magpie@h:99999", "must be a URL like http://10.0.0.1:30000: invalid port number"),
        ("api_key", "a magpie", "must be text without spaces"),
        ("url", "http://h/v1/", "must not end in /v1, which is added"),
        ("name", "a b", "must be 1 to 64 letters, digits, dots, dashes or underscores, is 'a b'"),
        ("engine", "tgi", "must be 'sglang', 'vllm', 'openai' or 'litellm', is 'tgi'"),
        ("url", "7", "must be a URL like http://10.0.0.1:30000"),
        ("profile", "[]", "must be text, is a list"),
        ("profile", "absent.toml", "absent.toml: [Errno 2]"),
        ("profile", "qwen3-8b-h10", "'qwen3-8b-h10' is not a shipped profile and not a path to a .toml file; did you mean qwen3-8b-h100?"),
        ("capabilities", "[tool]", "must be 'tools', 'json', "),
        ("max_in_flight", "0", "must be at least 1, is '0'"),
    ],
)
def test_a_backend_that_cannot_be_is_refused(folder, key, value, said):
    """With the key of the backend it belongs to."""
    whole = {"name": "a", "url": "http://h", "model": "m", "profile": "here.toml"} | {key: value}
    text = "backends:\n- " + "\n  ".join(f"{k}: {v}" for k, v in whole.items())

    (found,) = problems(folder, text)

    assert f" backends[0].{key}" in found
    assert said in found
    assert "magpie" not in found


def test_a_profile_that_is_wrong_is_told_at_the_line_that_names_it(folder):
    """The profile's own message follows the config's line."""
    (folder / "bad.toml").write_text(PROFILE.replace("context = 40960", "contxt = 40960"))

    (found,) = problems(folder, fleet("a").replace("here.toml", "bad.toml"))

    assert found.startswith("c.yaml:2: backends[0].profile: bad.toml: engine.contxt: unknown key; did you mean engine.context?")


def test_a_shipped_profile_is_known_by_its_name(folder):
    """From wherever the config file is."""
    name = profiles.names()[0]

    assert read(folder, fleet("a").replace("here.toml", name)).backends[0].profile == profiles.load(name)


def test_names_are_unique(folder):
    """Of backends, of keys, and the hashes of keys in either case."""
    text = fleet("a", "a") + f"keys: [{{name: k, sha256: {SHA}}}, {{name: k, sha256: {SHA.upper()}}}]"

    assert problems(folder, text) == [
        "c.yaml:3: backends[1].name: is the same as backends[0].name",
        "c.yaml:4: keys[1].name: is the same as keys[0].name",
        "c.yaml:4: keys[1].sha256: is the same as keys[0].sha256",
    ]


def test_all_mistakes_are_told_at_once(folder):
    """In the order of their lines; what keys say about each other too, where the keys themselves could be read."""
    text = """\
listen: {port: x, hots: y}
backends:
  - {name: small, modle: m, url: "http://h", profile: here.toml}
  - 7
  - {name: large, model: m, url: "http://h", profile: here.toml}
models: {auto: [smal, large]}
policy: {fallback: "static:lrge@5"}
slo: []
"""

    assert problems(folder, text) == [
        "c.yaml:1: listen.port: must be a whole number, is 'x'",
        "c.yaml:1: listen.hots: unknown key; did you mean listen.host?",
        "c.yaml:3: backends[0].model: is missing",
        "c.yaml:3: backends[0].modle: unknown key; did you mean backends[0].model?",
        "c.yaml:4: backends[1]: must be a mapping, is '7'",
        "c.yaml:6: models.auto[0]: 'smal' is no backend; did you mean small?",
        "c.yaml:7: policy.fallback: 'lrge' is no backend; did you mean static:large?",
        "c.yaml:7: policy.fallback: '5' is none of the budgets, which are none",
        "c.yaml:8: slo: must be a mapping, is a list",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "c.yaml:1: backends: is missing"),
        ("backends: []", "c.yaml:1: backends: must not be empty"),
        ("a: 1", "c.yaml:1: backends: is missing"),
        ("- a", "c.yaml:1: must be a mapping, is a list"),
        ("just words", "c.yaml:1: must be a mapping, is 'just words'"),
        ("a: 1\nb: [", "c.yaml:3: is not YAML: "),
        ("a: 1\n\tb: 2", "c.yaml:2: is not YAML: "),
        ("a: {b: ${X}}", 'between braces or brackets a variable needs quotes: "${NAME}"'),
        ("a: \x00", "c.yaml: is not YAML: "),
        ("a: 1\n---\nb: 1", "c.yaml:2: is not YAML: "),
        ("a: *b", "c.yaml:1: is not YAML: found undefined alias"),
        ("&a [*a]", "holds more than 20,000 values or 20 levels once its aliases are followed"),
        ("[" * 100_000, "is nested deeper than 20 levels"),
        ("#" * 1_000_001, "is longer than 1,000,000 characters"),
        ("\ud800", "c.yaml: "),
    ],
)
def test_what_is_no_config_at_all_is_refused(folder, text, said):
    """With the line where YAML has one."""
    assert any(said in line for line in problems(folder, text))


def test_a_key_cannot_write_on_the_terminal(folder):
    """What does not print is escaped, so that a problem stays one line."""
    assert problems(folder, fleet("a") + r'"a\nb\e[2J": 1') == [r"c.yaml:3: a\nb\x1b[2J: unknown key"]


def test_a_few_lines_that_stand_for_millions_are_refused(folder):
    """Aliases of aliases, nine deep."""
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))

    assert problems(folder, text) == ["c.yaml: holds more than 20,000 values or 20 levels once its aliases are followed"]


def test_an_alias_is_followed(folder):
    """YAML's anchors are fine in moderation."""
    config = read(folder, fleet("a") + "slo: {tiers: {flex: &slow {ttft_ms: 9000}, default: *slow}}")

    assert config.slo.tiers["flex"] == config.slo.tiers["default"]


def test_a_number_can_be_a_name(folder):
    """As it was written."""
    text = fleet("'3.10'").replace("Qwen/Qwen3-8B", "3.10") + "models: {7: ['3.10']}"

    config = read(folder, text)

    assert (config.models, config.backends[0].model) == ({"7": ("3.10",)}, "3.10")


@pytest.mark.parametrize("written", ["${PORT}", "'${PORT}'", "80${LAST}", "${NONE:-8001}", "${EMPTY:-8001}"])
def test_a_variable_becomes_what_its_key_wants(folder, written):
    """A number stays a number, in quotes or not."""
    text = fleet("a") + f"listen: {{port: '{written}'}}" if "'" not in written else fleet("a") + f"listen: {{port: {written}}}"

    assert read(folder, text, PORT="8001", LAST="01", EMPTY="").listen.port == 8001


def test_a_variable_can_switch_a_key_off(folder):
    """An empty one is none where none is allowed."""
    text = fleet("a").replace("{name", "{api_key: '${KEY:-}', name") + "default_model: '${MODEL:-}'\nbudgets: ['${CAP:-}', 9]"

    assert read(folder, text).backends[0].api_key is None
    assert read(folder, text).default_model is None
    assert [budget.name for budget in read(folder, text).budgets] == ["none", "9"]
    assert read(folder, text, KEY="12345").backends[0].api_key == "12345"


def test_the_characters_of_a_variable_can_be_meant(folder):
    """`$${` stands for `${`, and a lone dollar for itself."""
    config = read(folder, fleet("a") + "budgets: [{tokens: 9, instruction: 'At most $${X} of $5.'}]")

    assert config.budgets[0].instruction == "At most ${X} of $5."


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("${PORT}", "the environment has no variable PORT; set it or write ${PORT:-default}"),
        ("${}", "a variable is written ${NAME} or ${NAME:-default}"),
        ("${1A}", "a variable is written ${NAME} or ${NAME:-default}"),
        ("${PORT", "a variable is written ${NAME} or ${NAME:-default}"),
    ],
)
def test_a_variable_that_is_not_there_is_named(folder, written, said):
    """With the key that wants it."""
    (found,) = problems(folder, fleet("a") + f"listen: {{port: '{written}'}}")

    assert found.startswith(f"c.yaml:3: listen.port: {said}")


def test_a_variable_is_put_in_after_yaml_was_read(folder):
    """So it cannot bring keys of its own."""
    text = fleet("a") + "log:\n  level: ${LEVEL}"

    (found,) = problems(folder, text, LEVEL="info\nlisten: {host: 0.0.0.0}")

    assert found.startswith("c.yaml:4: log.level: must be 'debug', ")


def test_no_secret_is_repeated(folder):
    """Neither what came from the environment, nor a key that cannot be one, nor in the printed config."""
    backend = fleet("a").replace("{name", "{api_key: '${KEY}', max_in_flight: '${KEY}', name")
    said = "\n".join(problems(folder, backend + "keys: [{name: k, sha256: magpie}]\ndefault_model: '${KEY}'", KEY="magpie with spaces"))
    config = read(folder, fleet("a").replace("{name", "{api_key: magpie, name") + f"keys: [{{name: k, sha256: {SHA}}}]")

    assert "magpie" not in said
    assert "magpie" not in repr(config)
    assert SHA not in repr(config)


def test_a_file_is_read_from_its_path(folder):
    """A byte-order mark is no part of it; the source is kept."""
    path = folder / "bestserve.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + fleet("a").encode())

    assert load({}, path).source == str(path)


def test_a_file_that_cannot_be_read_is_told_by_its_name(folder):
    """Absent, or not text."""
    (folder / "bytes.yaml").write_bytes(b"\xff\xfe\xfa")

    with pytest.raises(BadConfig, match=r"absent\.yaml: cannot be read: No such file or directory"):
        load({}, folder / "absent.yaml")
    with pytest.raises(BadConfig, match=r"bytes\.yaml: is not UTF-8 text"):
        load({}, folder / "bytes.yaml")


def test_the_environment_is_the_processs(monkeypatch):
    """What `serve` hands to `load`."""
    monkeypatch.setenv("BESTSERVE_TEST", "1")

    assert environment()["BESTSERVE_TEST"] == "1"


WORDS = """backends name url model profile models budgets tokens slo tiers flex policy fallback static:a keys sha256 listen port
    a none null true 1 0.5 -3 ${X} ${X:-1} $${ here.toml http://h & * ! << ? - : [ ] { } , # | > ' " % @ ` é"""
MESS = st.lists(st.sampled_from([*WORDS.split(), "\n", "\t", "", "\u2028"]), max_size=40).map(" ".join)


def mistakes(folder: Path, text: str) -> list[str]:
    """What is wrong with a text; nothing for a good one. Anything but BadConfig passes through."""
    try:
        assert read(folder, text, X="\n- {").backends
    except BadConfig as error:
        return str(error).split("\n")
    return []


@given(st.one_of(st.text(), MESS, MESS.map(lambda mess: fleet("a") + mess)))
@settings(deadline=None)
def test_no_text_makes_anything_but_a_config_or_a_bad_one(folder, text):
    """Whatever is written, the answer is a Config or BadConfig, and that says where."""
    assert all(line.startswith(str(folder / "c.yaml")) for line in mistakes(folder, text))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = list(Config.model_fields)
SECTIONS = {"listen": Listen, "backends": BackendConfig, "slo": SLOConfig, "policy": PolicyConfig, "replay": Replay, "keys": Key}


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
@settings(deadline=None)
def test_no_value_of_a_key_makes_anything_but_a_config_or_a_bad_one(folder, tree):
    """Every key, with every kind of value."""
    backend = {"name": "a", "url": "http://h", "model": "m", "profile": "here.toml"}

    mistakes(folder, yaml.safe_dump({"backends": [backend]} | tree))


@given(st.sampled_from(list(SECTIONS)), st.data())
@settings(deadline=None)
def test_no_value_inside_a_section_makes_anything_but_a_config_or_a_bad_one(folder, section, data):
    """Every key of every section, with every kind of value, alone and in a list."""
    names = st.sampled_from(list(SECTIONS[section].model_fields))
    tree = data.draw(st.dictionaries(names, VALUES, max_size=4))
    backend = {"name": "a", "url": "http://h", "model": "m", "profile": "here.toml"}

    for value in (tree, [tree], [backend | tree]):
        mistakes(folder, yaml.safe_dump({"backends": [backend]} | {section: value}))
