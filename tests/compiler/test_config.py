"""Layers of configuration: what holds, where it was said, what is refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from cupola.compiler.config import (
    ConfigFile,
    ParamLayer,
    argument_layers,
    call_layer,
    environment_layer,
    find_config_file,
    read_config_file,
    resolve_params,
)
from cupola.compiler.signature import Parameter
from cupola.entities.options import CachePolicy, Model, Retry
from cupola.errors import ConfigError, NotFound

pytestmark = pytest.mark.feature("CORE-02")


@dataclasses.dataclass
class Opt:
    rate: float = 0.1
    depth: int = 3


@dataclasses.dataclass
class Cfg:
    name: str = "base"
    opt: Opt = dataclasses.field(default_factory=Opt)


@dataclasses.dataclass
class Strict:
    a: int
    b: int


RATE = Parameter("rate", float, True, 0.1)
DEPTH = Parameter("depth", int, True, 3)
CFG = Parameter("cfg", Cfg, True, Cfg("default", Opt(9, 9)))


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes) -> ConfigFile:
        path = tmp_path / "run.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_config_file(path)

    return write


def refusal(call: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call()
    assert caught.value.exit_code == 2
    assert len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


def test_higher_layers_win_and_every_value_knows_its_origin(write: Any, tmp_path: Path):
    file = write("params:\n  rate: 0.2\n  depth: 5\n")
    environment = environment_layer([RATE, DEPTH], {"CUPOLA_PARAM_DEPTH": "6", "PATH": "x"}, tmp_path)
    arguments = argument_layers(["rate=0.4"], tmp_path)
    assert resolve_params([RATE, DEPTH], []) == ({"rate": 0.1, "depth": 3}, {"rate": "default", "depth": "default"})
    values, origins = resolve_params([RATE, DEPTH], [file.params])
    assert values == {"rate": 0.2, "depth": 5}
    assert origins == {"rate": f"{file.path}:2", "depth": f"{file.path}:3"}
    values, origins = resolve_params([RATE, DEPTH], [file.params, environment, call_layer({"rate": 0.3})])
    assert values == {"rate": 0.3, "depth": 6}
    assert origins == {"rate": "call", "depth": "environment (CUPOLA_PARAM_DEPTH)"}
    values, origins = resolve_params([RATE, DEPTH], [file.params, environment, *arguments])
    assert values == {"rate": 0.4, "depth": 6}
    assert origins["rate"] == "--param"


def test_falsy_values_override_defaults():
    parameters = [
        Parameter("n", int, True, 5),
        Parameter("flag", bool, True, True),
        Parameter("maybe", int | None, True, 7),
    ]
    parameters += [Parameter("text", str, True, "x"), Parameter("items", list, True, [1])]
    given = {"n": 0, "flag": False, "maybe": None, "text": "", "items": []}
    assert resolve_params(parameters, [call_layer(given)])[0] == given
    written = argument_layers(["n=0", "flag=false", "maybe=null", "text=", "items=[]"], Path("."))
    assert resolve_params(parameters, written)[0] == given


def test_one_nested_field_is_overridden_and_its_siblings_stay(write: Any, tmp_path: Path):
    file = write("params:\n  cfg: {opt: {depth: 5}}\n")
    arguments = argument_layers(["cfg.opt.rate=2", "cfg.name=x"], tmp_path)
    values, origins = resolve_params([CFG], [file.params, *arguments])
    assert values["cfg"] == Cfg("x", Opt(2.0, 5))
    assert CFG.default == Cfg("default", Opt(9, 9))
    assert origins == {
        "cfg": "default",
        "cfg.opt.depth": f"{file.path}:2",
        "cfg.opt.rate": "--param",
        "cfg.name": "--param",
    }


def test_fields_that_only_several_layers_together_complete(write: Any, tmp_path: Path):
    file = write("params:\n  s: {a: 1}\n")
    parameter = Parameter("s", Strict)
    values, _ = resolve_params([parameter], [file.params, *argument_layers(["s.b=2"], tmp_path)])
    assert values["s"] == Strict(1, 2)
    assert "no value for 'b'" in refusal(lambda: resolve_params([parameter], [file.params]))


def test_a_field_of_an_object_given_in_the_call_can_be_overridden(tmp_path: Path):
    layers = [call_layer({"cfg": Cfg("call", Opt(1, 1))}), *argument_layers(["cfg.opt.depth=2"], tmp_path)]
    assert resolve_params([CFG], layers)[0]["cfg"] == Cfg("call", Opt(1, 2))
    assert resolve_params([CFG], [call_layer({"cfg": {"name": "fresh"}})])[0]["cfg"] == Cfg("fresh", Opt())


def test_a_mapping_on_the_command_line_is_laid_over_what_the_file_says(write: Any, tmp_path: Path):
    file = write("params:\n  cfg: {name: file}\n")
    layers = [file.params, *argument_layers(["cfg={opt: {depth: 2}}"], tmp_path)]
    assert resolve_params([CFG], layers)[0]["cfg"] == Cfg("file", Opt(9, 2))


@pytest.mark.parametrize(
    ("argument", "words"),
    [("rte=1", ("'rte'", "'rate'", "of p")), ("cfg.opt.dpth=1", ("'dpth'", "'depth'", "field 'opt'")),
     ("rate=fast", ("'rate'", "float", "'fast'")), ("rate", ("name=value",)), ("=1", ("name=value",)),
     ("a..b=1", ("name=value",)),
     ("rate.x=1", ("'rate'", "float"))],
)  # fmt: skip
def test_wrong_arguments_are_refused_by_name(argument: str, words: tuple[str, ...], tmp_path: Path):
    message = refusal(lambda: resolve_params([RATE, CFG], argument_layers([argument], tmp_path), pipeline="p"))
    for word in words:
        assert word in message, message


@pytest.mark.feature("CORE-12")
def test_the_environment_is_converted_by_the_type_and_its_variable_is_named(tmp_path: Path):
    parameters = [Parameter("retries", int, True, 1), Parameter("enabled", bool, True, True)]
    layer = environment_layer(parameters, {"CUPOLA_PARAM_RETRIES": "3", "CUPOLA_PARAM_ENABLED": "false"}, tmp_path)
    assert resolve_params(parameters, [layer])[0] == {"retries": 3, "enabled": False}
    wrong = environment_layer(parameters, {"CUPOLA_PARAM_RETRIES": "three"}, tmp_path)
    message = refusal(lambda: resolve_params(parameters, [wrong]))
    assert "CUPOLA_PARAM_RETRIES" in message
    assert "int" in message
    message = refusal(lambda: environment_layer(parameters, {"CUPOLA_PARAM_RETRIS": "3"}, tmp_path))
    assert "CUPOLA_PARAM_RETRIES" in message
    assert not environment_layer(parameters, {"CUPOLA_PARAM_OTHER_PIPELINE": "3"}, tmp_path).values


def test_a_missing_value_says_where_it_can_be_given():
    message = refusal(lambda: resolve_params([Parameter("n", int)], []))
    assert "parameter 'n' has no value" in message
    assert "--param n=" in message


def test_a_default_of_a_wrong_type_is_refused_and_none_is_not():
    assert "the default of parameter 'n'" in refusal(lambda: resolve_params([Parameter("n", int, True, "many")], []))
    assert resolve_params([Parameter("n", int, True, None)], [])[0] == {"n": None}
    assert resolve_params([Parameter("d", dt.date, True, "2026-01-02")], [])[0] == {"d": dt.date(2026, 1, 2)}


def test_a_file_is_read_whole(write: Any):
    file = write(
        "params: {rate: 0.5}\ncache: false\nretry: {attempts: 4, delay: 2, on: [ConnectionError]}\n"
        "on_error: continue\ntags: [file, 'two words', 01]\nmodel: churn\nenv: {A: 01, B: no}\n"
        "secrets: {T: '{{hub.token}}'}\nsettings: {ray: {cpus: 2}}\nsteps:\n"
        "  fit: {timeout: 10m, cache: {expires: 7d, ignore: [seed]}, params: {depth: 2}}\n  prepare/load: {retry: 2}\n"
        "profiles: {small: {params: {rate: 1}}}\n"
    )
    knobs = file.knobs.pipeline
    assert knobs.cache is False
    assert knobs.retry == Retry(attempts=4, delay=2.0, on=("ConnectionError",))
    assert (knobs.on_error, list(knobs.tags), knobs.model) == ("continue", ["file", "two words", "01"], Model("churn"))
    assert (knobs.env, knobs.secrets, knobs.settings) == (
        {"A": "01", "B": "no"},
        {"T": "{{hub.token}}"},
        {"ray": {"cpus": 2}},
    )
    assert knobs.name is UNSET
    assert file.knobs.steps["fit"].cache == CachePolicy(expires=dt.timedelta(days=7), ignore=("seed",))
    assert file.knobs.steps["fit"].timeout == "10m"
    assert file.knobs.steps["prepare/load"].retry == 2
    assert set(file.step_params) == {"fit"}
    assert resolve_params([DEPTH], [file.step_params["fit"]])[0] == {"depth": 2}
    assert file.places["cache"] == f"{file.path}:2"
    assert file.places["steps.fit.timeout"] == f"{file.path}:11"
    assert file.profiles is not None


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbfparams:\r\n  rate: 0.5\r\n", "params: {rate: 0.5}".encode("utf-16"), b"params:\n  rate: 0.5"]
)
def test_byte_order_marks_and_line_ends_of_other_systems_are_read_right(write: Any, data: bytes):
    assert resolve_params([RATE], [write(data).params])[0] == {"rate": 0.5}


def test_letters_beyond_ascii_are_read_under_an_ascii_locale(run_python: Any, tmp_path: Path):
    (tmp_path / "run.yaml").write_bytes("params: {x: Zürich}".encode())
    program = (
        "from pathlib import Path\nfrom cupola.compiler.config import read_config_file\n"
        "print(ascii(read_config_file(Path('run.yaml')).params.values['x'].text))"
    )
    done = run_python("-X", "utf8=0", "-c", program, LC_ALL="C", PYTHONCOERCECLOCALE="0")
    assert done.stdout.strip() == "'Z\\xfcrich'", done.stderr


@pytest.mark.parametrize("text", ["", "# nothing\n", "params:\n", "---\nparams:\n", "steps:\n  fit:\n"])
def test_empty_files_and_sections_say_nothing(write: Any, text: str):
    file = write(text)
    assert not file.params.values


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


@pytest.mark.feature("CORE-12")
@pytest.mark.parametrize(
    ("text", "words"),
    [("cahce: false", ("'cahce'", "'cache'", "run.yaml:1")),
     ("params: {rate: 1}\nzzz: 1", ("'zzz'", "known are", "run.yaml:2")),
     ("steps: {fit: {rtry: 2}}", ("'steps.fit.rtry'", "'retry'")),
     ("steps: {fit: {tags: [a]}}", ("whole run", "move it to the top")),
     ("params: [1]", ("params must be a mapping",)), ("- a", ("must be a mapping",)),
     ("just text", ("must be a mapping", "run.yaml:1:1")),
     ("cache: maybe", ("cache", "'maybe'", "run.yaml:1:8")), ("cache: {expres: 7d}", ("'expres'", "'expires'")),
     ("retry: {attempts: 0}", ("attempts", "at least 1")),
     ("retry: many", ("retry", "'many'")), ("tags: a", ("tags", "[a, b]")), ("on_error: stp", ("'stop'",)),
     ("env: [A]", ("env",)),
     ("cache: true\ncache: false", ("'cache' stands twice", "run.yaml:2")),
     ("params: {x: 1, x: 2}", ("'x' stands twice",)),
     ("params: {x: !!int 5}", ("tag", "a configuration is data", "run.yaml:1:13")),
     ("params: {x: !!python/object/apply:os.getcwd []}", ("tag",)),
     ("params: !x {}", ("tag",)), ("params: &a [*a]", ("*a",)), (BOMB, ("100000",)),
     ("a: [", ("no YAML", "run.yaml:1")), ("\tb: 1", ("indent with spaces",)),
     ("---\n---\n", ("several documents",)), ("? [a]\n: 1", ("key",)), ("a: " + "[" * 150, ("nested deeper",)),
     (b"a: \xff", ("UTF-8", "run.yaml:1"))],
)  # fmt: skip
def test_what_makes_no_sense_in_a_file_is_refused_with_its_place(write: Any, text: str | bytes, words: tuple[str, ...]):
    message = refusal(lambda: write(text))
    for word in words:
        assert word in message, message


def test_an_unknown_parameter_in_a_file_names_file_and_neighbour(write: Any):
    message = refusal(lambda: resolve_params([RATE], [write("params:\n  raet: 0.5\n").params]))
    for word in ("'raet'", "'rate'", "run.yaml:2"):
        assert word in message, message


def test_a_missing_file_is_said_by_its_name(tmp_path: Path):
    with pytest.raises(NotFound, match=r"gone\.yaml"):
        read_config_file(tmp_path / "gone.yaml")


def test_the_file_beside_a_pipeline_is_found_unless_it_belongs_to_something_else(tmp_path: Path):
    source = tmp_path / "flow.py"
    assert find_config_file(str(source)) is None
    (tmp_path / "config.yaml").write_text("cache: false\n")
    found = find_config_file(str(source))
    assert found is not None
    assert found.knobs.pipeline.cache is False
    (tmp_path / "config.yaml").write_text("database: {host: x}\nport: 5\n")
    assert find_config_file(str(source)) is None
    (tmp_path / "config.yaml").write_text("database: {host: x}\ncahce: false\n")
    with pytest.raises(ConfigError, match="'database'"):
        find_config_file(str(source))


def test_one_anchor_may_stand_in_two_places(write: Any):
    file = write("params:\n  one: &a {rate: 1}\n  two: *a\n")
    parameters = [Parameter("one", Opt), Parameter("two", Opt)]
    assert resolve_params(parameters, [file.params])[0] == {"one": Opt(1.0), "two": Opt(1.0)}


def test_braces_in_values_stay_text(write: Any):
    file = write("params:\n  x: '{{ ().__class__.__mro__ }}'\n  y: '{name}'\n")
    parameters = [Parameter("x", str), Parameter("y", str)]
    assert resolve_params(parameters, [file.params])[0] == {"x": "{{ ().__class__.__mro__ }}", "y": "{name}"}


def test_a_layer_may_be_empty():
    assert resolve_params([RATE], [ParamLayer("call")])[0] == {"rate": 0.1}
