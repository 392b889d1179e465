"""Make the environment of the project ready: `make env`, and what every other target of `make` does first.

An environment that holds the packages of the lock files is used as it is, wherever it comes from. One that
`make` made is brought up to date. One that is a link belongs to somebody else: it is never changed.

Runs on any Python 3 and needs nothing else.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import check_python

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Runs in the environment: the packages of the locks that are missing there, or have another version.
COMPARE = """
import json, re, sys
from importlib.metadata import distributions
try:
    from packaging.markers import Marker
except ImportError:
    Marker = None
name = lambda text: re.sub("[-_.]+", "-", text).lower()
found = {}
for one in distributions():
    if one.metadata["Name"]:
        # The first on the path is the one that is imported.
        found.setdefault(name(one.metadata["Name"]), one.version)
wrong = []
for package, version, marker in json.load(sys.stdin):
    if Marker is None:
        wrong.append("packaging is missing")
        break
    if marker and not Marker(marker).evaluate():
        continue
    if name(package) not in found:
        wrong.append(package + " is missing")
    elif found[name(package)].partition("+")[0] != version:
        wrong.append(package + " is " + found[name(package)] + ", not " + version)
print(json.dumps([wrong, [one for one in ("faiss-cpu", "faiss-gpu") if one in found]]))
"""
PIN = re.compile(r"^([\w.-]+)==([^\s;\\]+)(?: ; ([^\\\n]+?))?\s*\\?$", re.MULTILINE)
# Older releases of this project wrote an empty file with this name.
STAMP = ".installed-{kind}"


def locks(kind):
    return [os.path.join(PROJECT, "envs", name + ".lock") for name in (kind, "dev")]


def identity(kind, place):
    """What the stamp of an installed environment holds: the locks' digest and where it was made."""
    digest = hashlib.sha256()
    for path in locks(kind):
        with open(path, "rb") as stream:
            digest.update(stream.read())
    return json.dumps({"locks": digest.hexdigest(), "place": os.path.realpath(place)})


def read(path):
    """Text of a file; empty if there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return ""


def differences(place, kind):
    """([how the packages of an environment differ from the locks], [its builds of FAISS]).

    None if its interpreter does not start.
    """
    pins = [pin for path in locks(kind) for pin in PIN.findall(read(path))]
    command = [os.path.join(place, "bin", "python"), "-c", COMPARE]
    try:
        done = subprocess.run(
            command, input=json.dumps(pins).encode(), stdout=subprocess.PIPE, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return json.loads(done.stdout.decode())


# The beginning of an installed program: pip's plain form, and the one for a path with blanks or a long one.
PLAIN = re.compile(r"#!(/[^\n]+)/bin/python[\d.]*\n")
WRAPPED = re.compile(r"#!/bin/sh\n'''exec' ['\"]?(/[^\n]+?)/bin/python[\d.]*['\"]? [^\n]*\n' '''\n")


def head(text):
    """The match of a program's first lines; group 1 is the environment that it runs in."""
    return PLAIN.match(text) or WRAPPED.match(text)


def first_place(place):
    """The folder where the environment's programs look for it: another one if it was moved since."""
    found = head(read(os.path.join(place, "bin", "snakemake")))
    return found.group(1) if found else None


def mend_programs(place, old):
    """Let the programs of a moved environment find its interpreter again. ``old``: its former folder."""
    bin_folder = os.path.join(os.path.realpath(place), "bin")
    interpreter = os.path.join(bin_folder, "python")
    # Writes the scripts that activate it. The Python that the environment was made from may be another one
    # than this.
    base = subprocess.check_output([interpreter, "-c", "import sys; print(sys._base_executable)"])
    command = [base.decode().strip(), "-m", "venv", "--without-pip", os.path.realpath(place)]
    subprocess.check_call(command)
    for name in os.listdir(bin_folder):
        path = os.path.join(bin_folder, name)
        text = "" if os.path.islink(path) else read(path)
        found = head(text)
        if found and found.group(1) == old:
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
                stream.write("#!/bin/sh\n'''exec' \"%s\" \"$0\" \"$@\"\n' '''\n" % interpreter)
                stream.write(text[found.end() :])


# {setting of pip: (variable of uv, what stands between several values)}.
VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_EXTRA_INDEX_URL", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


def settings_of_pip(python):
    """{setting: its values} of pip's configuration."""
    text = subprocess.check_output([python, "-m", "pip", "config", "list"]).decode()
    found = {}
    # Variables of the environment come first, and win.
    for key, value in re.findall(r"^(\S+)='(.*)'$", text, re.MULTILINE):
        found.setdefault(key.rpartition(".")[2], value.replace("\\n", " ").split())
    return found


def switched_on(values):
    return bool(values) and values[0].lower() in ("1", "true", "yes", "on")


def variables_for_uv(settings):
    """The environment in which uv finds packages where pip would: it does not read pip's configuration.

    Addresses may hold passwords, so they are not among the options, which are shown.
    """
    variables = {
        variable: between.join(settings[name])
        for name, (variable, between) in VARIABLES.items()
        if settings.get(name)
    }
    if settings.get("extra-index-url"):
        # pip also takes what fits from any index; hashes say which files fit.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if switched_on(settings.get("no-cache-dir")):
        variables["UV_NO_CACHE"] = "1"
    variables.update(os.environ)
    return variables


def install(place, kind):
    """Make the environment if there is none, and install the locks into it.

    uv downloads side by side. Where it cannot be had, or fails, pip installs the same files.
    """
    python = os.path.join(place, "bin", "python")
    commands = []
    if not os.path.exists(python):
        check_python.check()
        commands.append([sys.executable, "-m", "venv", place])
    else:
        # It may have been made with another Python than this one, or by a program that adds no pip.
        if subprocess.call([python, os.path.join(PROJECT, "envs", "check_python.py")]):
            sys.exit("Or remove %s, and run `make env` to make it anew." % place)
        if subprocess.call([python, "-c", "import pip"], stderr=subprocess.DEVNULL):
            commands.append([python, "-m", "ensurepip"])
    for command in commands:
        if shown(command):
            sys.exit("The environment %s could not be made; the messages are above." % place)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip.append("--require-hashes")
    files = [word for path in locks(kind) for word in ("-r", os.path.relpath(path))]
    if with_uv(python, pip, files):
        return
    print("uv cannot install the packages here; pip does it, which takes longer", flush=True)
    if shown([*pip, *files]):
        sys.exit("The environment %s could not be made; the messages are above." % place)


def with_uv(python, pip, files):
    """Whether uv installed ``files``. ``pip``: the command that installs uv itself."""
    settings = settings_of_pip(python)
    # uv has no variable for it.
    if switched_on(settings.get("no-index")):
        return False
    installer = os.path.relpath(os.path.join(PROJECT, "envs", "installer.lock"))
    if shown([*pip, "-r", installer]):
        return False
    uv = [python, "-m", "uv", "pip", "install", "--python", python, "--require-hashes"]
    return not shown([*uv, "--compile-bytecode", *files], variables_for_uv(settings))


def shown(command, variables=None):
    """The exit code of a command, which is printed."""
    print("$ " + " ".join(shlex.quote(word) for word in command), flush=True)
    return subprocess.call(command, env=variables)


def some(wrong):
    """The first differences as text."""
    more = " and %d more" % (len(wrong) - 3) if len(wrong) > 3 else ""
    return "; ".join(wrong[:3]) + more


def for_other_hardware(builds, kind):
    """Whether an environment with these builds of FAISS is of no use for ``kind``; they exclude each other."""
    return bool(builds) and builds != ["faiss-" + kind]


def check_link(place, kind):
    """End with a sentence if the environment behind a link cannot be used. It is not ours to change."""
    found = differences(place, kind) if os.path.exists(place) else None
    if not os.path.exists(place):
        problem = "which does not exist"
    elif found is None:
        problem = "where bin/python does not start"
    elif for_other_hardware(found[1], kind):
        problem = "which was made for other hardware: it holds %s" % " and ".join(found[1])
    elif found[0]:
        problem = "whose packages differ from envs/%s.lock: %s" % (kind, some(found[0]))
    else:
        return
    sys.exit(
        "%s is a link to %s, %s. `make` does not change what is behind a link. Mend the environment "
        "there, or remove the link (rm %s) and run `make env` to make one here."
        % (place, os.path.realpath(place), problem, shlex.quote(place))
    )


def bring_up_to_date(place, kind):
    """Install what is missing in an environment that is not a link, or the whole if it is of no use."""
    found = differences(place, kind)
    useless = None
    if found is None:
        useless = "has no bin/python that starts"
    elif for_other_hardware(found[1], kind):
        useless = "was made for other hardware: it holds %s" % " and ".join(found[1])
    if useless:
        if os.listdir(place) and not any(
            one.startswith(".installed-") for one in os.listdir(place)
        ):
            sys.exit("%s %s. Remove it and run `make env`." % (place, useless))
        print("%s %s; installing it again" % (place, useless), flush=True)
        shutil.rmtree(place)
        install(place, kind)
        return
    old = first_place(place)
    if old and os.path.realpath(old) != os.path.realpath(place):
        print("%s was made as %s; its programs are mended" % (place, old), flush=True)
        mend_programs(place, old)
    if found[0]:
        install(place, kind)


def make_ready(place, kind):
    """See the module. Ends with a sentence (SystemExit) where that is not possible."""
    stamp = os.path.join(place, STAMP.format(kind=kind))
    if read(stamp) == identity(kind, place):
        return
    if os.path.islink(place):
        check_link(place, kind)
        return
    if os.path.exists(place):
        bring_up_to_date(place, kind)
    else:
        install(place, kind)
    try:
        with open(stamp, "w", encoding="utf-8") as stream:
            stream.write(identity(kind, place))
    except OSError:
        # A read-only folder: what is there was compared, and is compared again next time.
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", default=".venv", help="folder of the environment")
    parser.add_argument("--kind", choices=("cpu", "gpu"), default="cpu")
    args = parser.parse_args()
    make_ready(args.venv.rstrip("/") or "/", args.kind)


if __name__ == "__main__":
    main()
