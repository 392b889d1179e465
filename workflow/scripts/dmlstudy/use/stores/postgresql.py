"""An index in a PostgreSQL server with pgvector: shared by several machines, looked after by those who run the server."""

import contextlib
import os
import re
import threading
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from dmlstudy.core.files import StudyError
from dmlstudy.use.stores.store import Unreachable
from dmlstudy.use.stores.tables import Tables

FORM = "postgresql://[USER@]HOST[:PORT]/DATABASE[#NAME]"
# Schema of the index, if the address names none.
SCHEMA = "dml_index"
NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Seconds to wait for a connection, unless the address or PGCONNECT_TIMEOUT says otherwise.
PATIENCE = 10
# The server notices within a minute that the machine of a client is gone, and frees its lock.
KEEPALIVES = (
    "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
)
MAKING = (
    "CREATE TABLE {}gallery (stamp text NOT NULL, metadata text NOT NULL, class_weights bytea)",
    "CREATE TABLE {}classes (class_id bigint PRIMARY KEY, class_name text NOT NULL)",
    "CREATE TABLE {}images (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "image_id bigint NOT NULL UNIQUE, class_id bigint NOT NULL REFERENCES {}classes, path text NOT NULL, "
    "sha256 text, embedding vector NOT NULL)",
    "CREATE INDEX images_of_class ON {}images (class_id)",
)


def parsed(text):
    """(arguments of a connection, schema) of an address (`FORM`).

    StudyError for another text, and for one with a password: its message repeats nothing of the text.
    """
    problem = StudyError(f"--store: must be {FORM}")
    try:
        parts = urlsplit(text)
        user, at, _ = parts.netloc.rpartition("@")
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        if ":" in user or any("password" in name.lower() for name in options):
            raise StudyError(
                "--store: leave the password out, because everybody on this machine can read options; give it in "
                "the variable PGPASSWORD or in the file ~/.pgpass"
            )
        arguments = {
            "host": parts.hostname,
            "port": parts.port,
            "user": unquote(user),
            "dbname": unquote(parts.path.removeprefix("/")),
        }
    except ValueError:
        raise problem from None
    if bool(at) != bool(user) or not arguments["dbname"]:
        raise problem
    if parts.fragment and not NAME.fullmatch(parts.fragment):
        raise StudyError(
            "--store: the name of the index, after #, must be of small letters, digits and _, and not begin with a "
            "digit"
        )
    return {name: one for name, one in arguments.items() if one} | options, parts.fragment or SCHEMA


class _Asking:
    """Runs statements on a connection; numbers and vectors come in binary form."""

    def __init__(self, connection):
        self.connection = connection

    def __call__(self, statement, values=()):
        with self.connection.cursor(binary=True) as cursor:
            cursor.execute(statement.replace("?", "%s"), values or None)
            return cursor.fetchall() if cursor.description else []

    def many(self, statement, rows):
        with self.connection.cursor() as cursor:
            cursor.executemany(statement.replace("?", "%s"), rows)


class PostgresqlTables(Tables):
    """The index in a schema of its own. ``address``: see `FORM`."""

    distance, making = "embedding <#> ?::vector", MAKING

    def __init__(self, address, model):
        self._arguments, self.schema = parsed(address)
        if not {"connect_timeout", "service"} & self._arguments.keys():
            self._arguments["connect_timeout"] = os.environ.get("PGCONNECT_TIMEOUT", PATIENCE)
        self.prefix = f"{self.schema}."
        # Connections that nobody uses now, and the one of the thread that changes the index.
        self._free, self._changer, self._alone = [], None, threading.Lock()
        super().__init__(Path(model), Path(model).with_name(self.schema))

    def __str__(self):
        one = self._arguments
        user = f"{one['user']}@" if "user" in one else ""
        port = f":{one['port']}" if "port" in one else ""
        return f"postgresql://{user}{one.get('host', '')}{port}/{one['dbname']}#{self.schema}"

    def check(self):
        with self._reading() as ask:
            self._made(ask)
            if not ask("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
                raise StudyError(
                    f"{self}: this server has no pgvector; docs/stores.md says how to get it"
                )
            there = ask("SELECT 1 FROM pg_namespace WHERE nspname = ?", (self.schema,))
            right = (
                "has_schema_privilege(?, 'CREATE')"
                if there
                else "has_database_privilege(?, 'CREATE')"
            )
            of = self.schema if there else self._arguments["dbname"]
            if not ask(f"SELECT {right}", (of,))[0][0]:
                raise StudyError(
                    f"{self}: this user may not create tables there; its administrator can allow it "
                    "(docs/stores.md)"
                )

    @contextlib.contextmanager
    def changing(self):
        with self._alone, self._telling():
            connection = self._connected()
            try:
                # Freed by the server if this program ends in any way.
                name = f"DML index {self.schema}"
                connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
                self._changer = connection
                yield
            finally:
                self._changer = None
                connection.close()

    @contextlib.contextmanager
    def _reading(self):
        import psycopg

        with self._telling():
            connection = self._unused()
            try:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True
                with connection.transaction():
                    yield _Asking(connection)
            except BaseException:
                connection.close()
                raise
            self._free.append(connection)

    @contextlib.contextmanager
    def _writing(self):
        # On the connection that holds the lock: if that is lost, nothing is written.
        with self._telling(), self._changer.transaction():
            yield _Asking(self._changer)

    @contextlib.contextmanager
    def _telling(self):
        """Errors of the database as sentences. They never have the password."""
        import psycopg

        try:
            yield
        except psycopg.OperationalError as error:
            raise Unreachable(f"{self}: the database cannot be used now: {_first(error)}") from None
        except psycopg.Error as error:
            raise StudyError(f"{self}: the database refuses: {_first(error)}") from None

    def _unused(self):
        """A connection that works."""
        import psycopg

        while self._free:
            connection = self._free.pop()
            try:
                connection.execute("SELECT 1")
                return connection
            except psycopg.Error:
                # The server was started again.
                connection.close()
        return self._connected()

    def _connected(self):
        import psycopg

        connection = psycopg.connect(**self._arguments, autocommit=True)
        connection.execute(KEEPALIVES)
        return connection

    def _made(self, ask):
        if ask("SELECT to_regclass(?)", (f"{self.prefix}gallery",))[0][0] is not None:
            return True
        others = ask(
            "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(?)", (self.schema,)
        )
        if others[0][0]:
            raise StudyError(
                f"{self}: the schema {self.schema} holds other tables; choose another name after #"
            )
        return False

    def _make(self, ask):
        if not ask("SELECT 1 FROM pg_extension WHERE extname = 'vector'"):
            ask("CREATE EXTENSION vector")
        if not ask("SELECT 1 FROM pg_namespace WHERE nspname = ?", (self.schema,)):
            ask(f"CREATE SCHEMA {self.schema}")
        super()._make(ask)

    def _stored(self, vector):
        from pgvector import Vector

        return Vector(vector).to_text()

    def _vector(self, value):
        from pgvector import Vector

        return Vector.from_binary(value).to_numpy()


def _first(error):
    """The first line of an error of the database."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
