"""The documentation says what exists: its links, commands, files, keys and columns."""

import copy
import re
import shlex
import sys
import textwrap
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from snakemake.cli import get_argument_parser
from snakemake.utils import update_config
from tiny_study import WARM

from dmlstudy.core import registry, source_code
from dmlstudy.evaluate import comparison
from dmlstudy.plan import configuration
from dmlstudy.plan.layout import COMPARISON_TABLES
from dmlstudy.plan.sources import read_yaml

PROJECT = Path(__file__).resolve().parents[2]
WORKFLOW = PROJECT / "workflow"
PAGES = sorted((PROJECT / "docs").glob("*.md"))
TEXTS = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md", *PAGES]
# The list of changes also names what is gone.
CURRENT = [path for path in TEXTS if path.name != "CHANGELOG.md"]
MAX_WORDS = 1800
# Modules with options that several programs have.
SHARED_OPTIONS = [
    WORKFLOW / "scripts/dmlstudy/use" / name for name in ("changed_index.py", "stores/places.py")
]


def name_of(path):
    return str(path.relative_to(PROJECT))


def blocks(text):
    """Fenced blocks of a page: [(language, text without its indentation)]."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [(language, textwrap.dedent(block)) for _, language, block in found]


def prose(text):
    """A page without its fenced blocks."""
    return re.sub(r"^( *)```\w*\n.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)


def inline(text):
    """What stands in backticks outside of fenced blocks."""
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose(text))]


def anchors(path):
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path.read_text(encoding="utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def links(path):
    """Relative links and pictures of a page: [(target file, anchor or "")]."""
    text = prose(path.read_text(encoding="utf-8"))
    found = []
    for link in re.findall(r"\]\(\s*([^)\s]+)\s*\)", text):
        if not re.match(r"[a-z]+:", link):
            file, _, anchor = unquote(link).partition("#")
            found.append(((path.parent / file).resolve() if file else path, anchor))
    return found


def commands(path):
    """Commands of a page's shell blocks, one text each, continued lines joined."""
    text = path.read_text(encoding="utf-8")
    found = []
    for language, block in blocks(text):
        if not language:
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.strip() for line in lines if line.strip()]
    return found + inline(text)


def words_of(command):
    """Words of a command without its comment and without leading assignments."""
    words = shlex.split(command, comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def test_readme_is_two_pages():
    """Would catch a README that grows back into a manual."""
    words = len((PROJECT / "README.md").read_text(encoding="utf-8").split())
    assert words <= MAX_WORDS


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_page_is_listed_and_says_what_it_is_for(path):
    """Would catch a page that nobody finds, or one that begins without its purpose."""
    title, empty, first, *_ = path.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ")
    assert not empty
    assert first.startswith("This page ")
    if path.name != "README.md":
        assert (path, "") in links(PROJECT / "docs" / "README.md")


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_lead_somewhere(path):
    """Would catch a link to a page, a picture or a heading that is not there."""
    for target, anchor in links(path):
        assert target.exists(), target
        if anchor:
            assert anchor in anchors(target), f"{target}#{anchor}"


def rule_names():
    texts = [PROJECT / "Snakefile", *WORKFLOW.glob("rules/*.smk")]
    return {
        name
        for path in texts
        for name in re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_snakemake_and_make_know_their_commands(path):
    """Would catch a target, an option or a profile of a command that does not exist."""
    targets = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(path):
        if command.startswith("make "):
            named = [word for word in words_of(command)[1:] if "=" not in word]
            assert set(named) <= targets, command
        elif re.match(r"(\w+=\S+ )*snakemake ", command) and "…" not in command:
            given = get_argument_parser().parse_args(words_of(command)[1:])
            for target in given.targets:
                known = target in rule_names() or re.match(r"(results|\$run)/", target)
                assert known, f"{command}: {target}"
            if given.workflow_profile:
                assert (PROJECT / given.workflow_profile / "config.yaml").exists(), command


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_programs_know_their_options(path):
    """Would catch a program, or an option of one, that does not exist."""
    for command in commands(path):
        found = re.match(
            r"(?:\S*python) ((?:workflow/scripts|benchmarks|docs)/\w+\.py)(.*)", command
        )
        if found:
            program = PROJECT / found.group(1)
            assert program.exists(), command
            source = program.read_text(encoding="utf-8")
            if "add_option" in source:
                source += "".join(path.read_text(encoding="utf-8") for path in SHARED_OPTIONS)
            for option in re.findall(r"(?<= )--[\w-]+", found.group(2)):
                assert f'"{option}"' in source, command


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_files_exist(path):
    """Would catch a page that names a file, a folder or a module which has moved."""
    text = path.read_text(encoding="utf-8")
    # What a walk tells its reader to write.
    new = set(re.findall(r"Write\s+`([^`]+)`", text))
    for place in re.findall(
        r"(?<![\w/.])((?:workflow|config|docs|tests|benchmarks|containers|envs|profiles)/[\w./*+-]*)",
        text,
    ):
        place = place.rstrip(".")
        if place not in new and "KIND" not in place and not place.endswith(".sif"):
            assert list(PROJECT.glob(place)), place
    for module in inline(text):
        if re.fullmatch(r"dmlstudy(\.\w+)+", module):
            file = WORKFLOW / "scripts" / module.replace(".", "/")
            assert file.is_dir() or file.with_suffix(".py").exists(), module


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_results_and_programs_are_known(path):
    """Would catch a table, another result or a program whose name has changed."""
    sources = [*WORKFLOW.rglob("*.py"), *WORKFLOW.rglob("*.smk"), PROJECT / "Makefile"]
    known = " ".join(source.read_text(encoding="utf-8") for source in sources)
    programs = {file.name for file in PROJECT.rglob("*.py") if ".venv" not in str(file)}
    # A data set's own table, and a report of the reader's choice.
    own = {"answers", "photos"}
    for word in inline(path.read_text(encoding="utf-8")):
        for stem, ending in re.findall(r"([\w*]+)\.(csv|json|npz|faiss|webp|bin|py)\b", word):
            if ending == "py":
                pattern = f"{stem}.py".replace("*", "")
                assert pattern in programs or "/" in word, word
            elif "*" not in stem and stem not in own:
                assert re.search(rf"\b{stem}\b", known), word


@cache
def schema():
    # Reading it takes a quarter of a second, and it is asked for each key of each page.
    return read_yaml(WORKFLOW / "schemas" / "config.schema.yaml")


def key_exists(keys):
    """Whether the schema, or a piece's parameters, know a dotted key."""
    if keys[0] in registry.REGISTRY and len(keys) == 2:
        kinds = registry.REGISTRY[keys[0]]
        return any(keys[1] in source_code.parameters(keys[0], kind) for kind in kinds)
    value = schema()
    for key in keys:
        while "$ref" in value:
            value = schema()["$defs"][value["$ref"].rsplit("/", 1)[1]]
        if key in value.get("properties", {}):
            value = value["properties"][key]
        elif isinstance(value.get("additionalProperties"), dict):
            value = value["additionalProperties"]
        else:
            return False
    return True


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_keys_exist(path):
    """Would catch a key of the configuration that was renamed or removed."""
    first = [*schema()["properties"], *registry.REGISTRY]
    for word in inline(path.read_text(encoding="utf-8")):
        found = re.fullmatch(rf"((?:{'|'.join(first)})(?:\.\w+)+)(?::.*)?", word)
        if found and not word.endswith((".py", ".csv", ".json", ".html")):
            assert key_exists(found.group(1).split(".")), word


@cache
def published():
    """The published study's configuration, which `update_config` would change."""
    config = {}
    for name in ("config.yaml", "experiments.yaml"):
        update_config(config, read_yaml(PROJECT / "config" / name))
    return config


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_configurations_are_valid(path):
    """Would catch a configuration in the documentation that the workflow refuses."""
    for language, block in blocks(path.read_text(encoding="utf-8")):
        if language != "yaml":
            continue
        said = yaml.safe_load(block)
        # An entry of experiments.yaml, or a configuration.
        if not set(said) & set(schema()["properties"]):
            said = {"experiments": said}
        config = copy.deepcopy(published())
        update_config(config, said)
        configuration.validate(config, [])


def test_every_table_and_column_is_explained():
    """Would catch a column or a table that was added without its line in the documentation."""
    text = (PROJECT / "docs" / "tables.md").read_text(encoding="utf-8")
    for column in comparison.COLUMNS:
        assert f"`{column}`" in text, column
    for table in COMPARISON_TABLES:
        assert f"`{table}.csv`" in text or table == "experiments", table


def test_diagram_of_the_pipeline_is_fresh(sharing):
    """Would catch a rule that was added, renamed or rewired without `make docs`."""
    sys.path.insert(0, str(PROJECT / "docs"))
    try:
        import draw_pipeline
    finally:
        sys.path.pop(0)
    stored = (PROJECT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    with sharing():
        # It starts Snakemake five times.
        drawn = draw_pipeline.page([sys.executable, "-S", str(WARM)])
    assert stored == drawn, "run `make docs`"


def test_citation_names_the_newest_version():
    """Would catch a release whose citation has an older version or another date."""
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.search(r"^## (\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)$", changes, re.M).groups()
    assert (citation["version"], citation["date-released"]) == (version, date)


def test_catalog_is_told_what_the_rules_offer():
    """Would catch a way of deployment that the catalog advertises and the rules lack, or a missing text."""
    usage = read_yaml(PROJECT / ".snakemake-workflow-catalog.yml")["usage"]
    assert usage["software-stack-deployment"] == {
        "conda": True,
        "apptainer": True,
        "apptainer+conda": False,
    }
    assert (WORKFLOW / "documentation.md").stat().st_size > 500
    assert (PROJECT / "CODE_OF_CONDUCT.md").exists()
    assert "snakemake==9." in (PROJECT / "envs" / "requirements.in").read_text()
