"""Where a configuration comes from: files as Snakemake reads them, the command line, and places in them."""

import json
import os
from pathlib import Path

import pytest
from configurations import refusal, small
from snakemake.cli import parse_config
from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

from dmlstudy.core.files import StudyError
from dmlstudy.plan import arguments, configuration, sources
from dmlstudy.plan.reading import study_of
from dmlstudy.plan.setting_types import _results_dir
from dmlstudy.plan.sources import place

PROJECT = Path(__file__).resolve().parents[2]
TEXTS = {
    "tabs.json": json.dumps({"device": "gpu", "protocol": {"epochs": "many"}}, indent="\t"),
    "one_line.json": '{"device": "gpu", "protocol": {"epochs": "many"}}',
    # Snakemake asks the content, not the name.
    "json.yaml": '{\n\t"device": "gpu",\n\t"protocol": {"epochs": "many"}\n}\n',
    "marked.yaml": "\ufeffdevice: gpu\nprotocol: {epochs: many}\n",
    "windows.yaml": "device: gpu\r\nprotocol:\r\n  epochs: many\r\n",
    "yte.yaml": "__use_yte__: true\n?if True:\n  device: gpu\nprotocol:\n  epochs: ?'ma' + 'ny'\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_files_are_read_as_snakemake_reads_them(tmp_path, name):
    """Would catch a file that Snakemake takes and that is said to be broken, or whose keys are not found."""
    path = tmp_path / name
    path.write_text(TEXTS[name], encoding="utf-8", newline="")
    read = {key: value for key, value in load_configfile(str(path)).items() if key != "__use_yte__"}
    assert {key: value for key, value in sources.read_yaml(path).items() if key in read} == read
    config = small()
    update_config(config, read)
    with pytest.raises(StudyError) as caught:
        configuration.validate(config, [str(path)])
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{path}: protocol.epochs: is 'many'")
    assert lines[1].startswith(f"{path}: device: is 'gpu'")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", '{"a": 1,\n\t"a": 2}', "key 'a' stands there twice"),
        ("a.json", '{"a": 1,\n\t"b" 2}', "not valid JSON: .*line 2"),
        ("a.yaml", "a: 1\nb:\n\t- 1\n", "not valid YAML: (.|\n)*line 3"),
        ("a.yaml", b"a: \xe9", "not UTF-8"),
    ],
)
def test_broken_files_are_named(tmp_path, name, text, words):
    """Would catch a traceback, or advice about YAML for a JSON file."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StudyError, match=words) as caught:
        sources.read_yaml(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("text", ["- a\n- b\n", '"text"', "3", "[1]"])
def test_a_file_without_keys_is_named(tmp_path, text):
    """Would catch a traceback of programs that read a configuration without Snakemake."""
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=r"mine\.yaml: is .*; must be a mapping, with keys"):
        study_of(PROJECT, [path])


def told(tmp_path, *values):
    """The refusal of a study with a right file and these values of ``--config``."""
    path = tmp_path / "right.yaml"
    path.write_text("device: cpu\nprotocol: {epochs: 1, seeds: [1]}\nonly: null\n")
    config = small()
    update_config(config, sources.read_yaml(path))
    given = parse_config(list(values))
    update_config(config, given)
    typed = sources.of_command_line(values)
    update_config(given, typed)
    update_config(config, typed)
    try:
        configuration.validate(config, [str(path), (sources.COMMAND_LINE, given)])
    except StudyError as error:
        return str(error).replace(str(path), "right.yaml")
    return config


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("device=gpu", "device: is 'gpu'"),
        ("protocol={epochs: many}", "protocol.epochs: is 'many'"),
        ('protocol={"seeds": [1, -2]}', "protocol.seeds.1: is -2"),
        ("only=[]", "only: is []"),
        ("protcol={epochs: 3}", "protcol: unknown key; .*; did you mean protocol?"),
        ("results_dir=", "results_dir: is None"),
    ],
)
def test_a_mistake_of_the_command_line_is_told_as_one(tmp_path, value, words):
    """Would catch a mistake of --config that is blamed on a file that is right."""
    start, _, end = words.partition(".*")
    message = told(tmp_path, value)
    assert message.startswith(f"{sources.COMMAND_LINE}: {start}")
    assert message.endswith(end)


def test_a_mistake_of_a_file_is_not_blamed_on_the_command_line(tmp_path):
    """Would catch the other half: a value beside that of the command line."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("protocol: {epochs: -1, batch_size: 8}\n")
    second.write_text("protocol: {batch_size: 0}\n")
    given = (sources.COMMAND_LINE, {"protocol": {"seeds": [1]}})
    files = [str(first), str(second), given]
    assert place(("protocol", "epochs"), files) == f"{first}: protocol.epochs"
    assert place(("protocol", "batch_size"), files) == f"{second}: protocol.batch_size"
    assert place(("protocol", "seeds", 0), files).startswith(sources.COMMAND_LINE)


def test_numbers_of_the_command_line_are_numbers(tmp_path):
    """Would catch `--config protocol={epochs: 2}`, whose 2 Snakemake reads as text."""
    found = told(tmp_path, "protocol={epochs: 2, seeds: [3], cuda_graphs: false}", "device=cuda")
    assert found["protocol"]["epochs"] == 2
    assert found["protocol"]["seeds"] == [3]
    assert found["protocol"]["cuda_graphs"] is False
    assert found["device"] == "cuda"


def test_a_module_is_told_the_place_in_its_hosts_file(tmp_path):
    """Would catch a mistake without a file where the configuration is a part of the host's."""
    path = tmp_path / "host.yaml"
    path.write_text("dml: {protocol: {epochs: -1}}\nother: {a: 1}\n")
    assert place(("protocol", "epochs"), [str(path)]) == f"{path}: dml.protocol.epochs"


# Paths.


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("results/x", "results/x"),
        ("./results/x", "results/x"),
        ("results//x/", "results/x"),
        ("results/./y/../x", "results/x"),
        ("../x/", "../x"),
        ("/a//b/", "/a/b"),
        ("//a/b", "/a/b"),
        ("~/dml", "HOME/dml"),
        ("link/../x", "ELSEWHERE/x"),
        ("ü ñ/x", "ü ñ/x"),
    ],
)
def test_results_dir_has_one_spelling(tmp_path, monkeypatch, given, expected):
    """Would catch files that are known by two paths, or a folder called ~."""
    home, here, elsewhere = (tmp_path / name for name in ("home", "here", "elsewhere"))
    for folder in (home, here, elsewhere / "inside"):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    os.symlink(elsewhere / "inside", "link")
    expected = expected.replace("HOME", str(home)).replace("ELSEWHERE", str(elsewhere))
    assert _results_dir(given) == expected
    assert _results_dir(expected) == expected
    assert not os.path.exists("~")


PATHS = {
    "-r": "begins with a dash",
    "./-r": "begins with a dash",
    "~nobody-of-this-name/x": "no home folder is known for ~nobody-of-this-name",
    "$SCRATCH_OF_NOBODY/x": "holds $SCRATCH_OF_NOBODY, which is not replaced",
    "${SCRATCH_OF_NOBODY}/x": "holds ${SCRATCH_OF_NOBODY}",
    "a\nb": "holds a control character",
    "a" * 256: "holds a name of more than 255 bytes",
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "key", ["results_dir", "dataset.source", "container", "initializers.imagenet.weights.resnet18"]
)
def test_paths_that_cannot_be_used_are_refused(key, path):
    """Would catch a path that an inner program takes for an option, or a folder called $SCRATCH."""
    config = holder = small()
    *parts, last = key.split(".")
    for part in parts:
        holder = holder.setdefault(part, {})
    holder[last] = path
    message = refusal(config)
    assert message.startswith(key)
    assert PATHS[path] in message


@pytest.mark.parametrize("path", [".", "./", "/", "a/..", "file", "file/x", "a{b}"])
def test_results_need_a_folder_of_their_own(tmp_path, monkeypatch, path):
    """Would catch results among the project's own files, or a file where a folder has to be made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    config = small()
    config["results_dir"] = path
    assert refusal(config).startswith(f"results_dir: is {path!r}; ")


def test_a_dash_reaches_a_program_as_a_value():
    """Would catch a project or a table that begins with a dash and ends a program with its usage text."""
    from argparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_argument("--project")
    parser.add_argument("--csv")
    words = arguments.options({"project": "-r", "csv": "--out"})
    assert vars(parser.parse_args(words)) == {"project": "-r", "csv": "--out"}
    # As before, so that nothing runs again.
    assert arguments.options({"csv": "a b.csv"}) == ["--csv", "a b.csv"]


# Names.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate_scale": {"SGD": 10}}, "learning_rate_scale.SGD: .*mean sgd?"),
        ({"learning_rate_scale": {"adm": 10}}, "learning_rate_scale.adm: .*mean adam?"),
        ({"substitute_initializers": {"imagnet": "scratch"}}, "imagnet: .*mean imagenet?"),
        ({"substitute_initializers": {"imagenet": "scrach"}}, "imagenet: .*mean scratch?"),
        ({"initializers": {"imagenet": {"weights": {"resnet81": "x"}}}}, "resnet81: .*resnet18?"),
        ({"initializers": {"simclr": {"backbones": {"resnt50": {}}}}}, "resnt50: .*mean resnet50?"),
        ({"initializers": {"simclr": {"dataset": "studdy"}}}, "dataset: .*mean study?"),
        (
            {"experiments": {"EPSHN_cosine_resnet18_sg": {"epochs": 1}}},
            ".*mean EPSHN_cosine_resnet18",
        ),
        ({"baseline": "EPSHN_cosine_resnet18_sgd_agu"}, "baseline: .*mean EPSHN_cosine_resnet18"),
        ({"only": ["EPSHN_euclidean_resnet81"]}, "only: .*mean EPSHN_euclidean_resnet18?"),
        ({"evaluation": {"recall": [1]}}, "evaluation.recall: .*mean recall_at?"),
        ({"dataset": {"format": "cubs"}}, "dataset.format: .*mean cub?"),
    ],
)
def test_names_are_compared_with_what_they_name(change, words):
    """Would catch a typo that does nothing and says nothing."""
    config = small()
    update_config(config, change)
    message = refusal(config)
    start, _, end = words.partition(".*")
    assert start in message
    assert end in message


def test_unknown_backbones_are_told_though_nobody_uses_them():
    """Would catch weights of a misspelt network: the publisher's would be taken instead."""
    from configurations import describe

    from dmlstudy.plan.planning import plan
    from dmlstudy.plan.recipes import RecipeError

    def asked(names, image_size):
        found = describe(names, image_size)
        return {**found, "timm/vit": {"problem": "unknown backbone 'timm/vit'"}}

    config = small()
    config["initializers"]["imagenet"]["weights"] = {"timm/vit": "https://host/a.pth"}
    config["initializers"]["imagenet"]["weights"]["timm/vit"] = {"source": "a.pth"}
    configuration.validate(config, [])
    with pytest.raises(RecipeError, match="unknown backbone") as caught:
        plan(config, asked)
    assert caught.value.keys == ("initializers", "imagenet", "weights", "timm/vit")
    # One that exists is no mistake, whether it is used or not.
    assert set(plan(config, describe).backbones) == {"resnet18", "resnet50"}


def test_an_inherited_mistake_is_told_where_it_stands():
    """Would catch a message about an experiment that only inherits the wrong value."""
    config = small()
    first, second, *_ = config["experiments"]
    config["experiments"] = {
        "child": {"like": second, "epochs": 3},
        **config["experiments"],
    }
    config["experiments"][first]["optimizer"] = {"kind": "sgd", "lr": -1}
    assert refusal(config).startswith(f"experiments.{first}.optimizer.lr: is -1")
    config["experiments"][first]["optimizer"] = {"kind": "sgd"}
    config["protocol"]["samples_per_class"] = 3
    assert refusal(config).startswith("protocol.samples_per_class: is 3, which does not divide")


def test_rows_without_training_stand_once():
    """Would catch a message that blames an experiment of another file."""
    config = small()
    config["untrained"] = {"backbones": ["resnet18", "resnet18"]}
    assert refusal(config).endswith("holds 'resnet18' twice")
    config["untrained"]["backbones"] = ["resnet18"]
    config["experiments"]["imagenet_resnet18"] = {"like": "EPSHN_cosine_resnet18"}
    assert refusal(config).startswith("untrained.backbones: 'resnet18' would make a second row")


def test_a_file_that_changes_an_experiment_does_not_move_it(tmp_path):
    """Would catch tables in whose first row stands what the command line's file changes."""
    own, mine = tmp_path / "experiments.yaml", tmp_path / "mine.yaml"
    own.write_text("experiments: {one: {epochs: 1}, two: {like: one}, three: {like: one}}")
    mine.write_text("experiments: {four: {like: one}, three: {epochs: 3}}\nonly: [one]")
    # As Snakemake does: the files of the command line first, and once more after the workflow's own.
    config = sources.read_yaml(mine)
    for path in (own, mine):
        update_config(config, sources.read_yaml(path))
    assert list(config["experiments"]) == ["four", "three", "one", "two"]
    given = [str(own), str(mine), (sources.COMMAND_LINE, {"experiments": "no mapping"})]
    found = sources.in_order(config["experiments"], "experiments", given)
    assert list(found) == ["one", "two", "three", "four"]
    assert found["three"] == {"like": "one", "epochs": 3}
