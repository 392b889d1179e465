"""Start a program as a fork of a process that has imported its packages already.

``start.py PROGRAM ARGUMENTS…`` does what ``python PROGRAM ARGUMENTS…`` does. Importing torch and
torchvision takes longer than a small job's own work, so the first job of each group starts a fork server
(`dmlstudy/core/fork_server.py`), and the jobs of that group are forks of it. The variable
``DML_FORK_SERVER`` names the study's servers and the process that they work for (``name:process id``).
Without it, and for programs that start fast, the program starts as usual.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time

# {group: (its programs, packages that these programs import)}.
GROUPS = {
    "training": (
        (
            "train.py",
            "pretrain.py",
            "try_candidate.py",
            "compute_features.py",
            "train_head.py",
            "try_head.py",
            "measure_models.py",
            "describe_backbone.py",
        ),
        ("pandas", "torch", "torchvision", "pytorch_metric_learning.losses"),
    ),
    "explanation": (("explain.py",), ("pandas", "torch", "torchvision", "pytorch_grad_cam")),
    "map": (("map_embeddings.py",), ("pandas", "umap", "faiss")),
    "evaluation": (
        (
            *("split.py", "evaluate.py", "answer.py", "score_rejection.py", "check_health.py"),
            "compare.py",
        ),
        ("pandas", "scipy.stats", "sklearn.metrics", "faiss", "yaml"),
    ),
    "pages": (
        ("report.py", "compare_page.py"),
        ("pandas", "jinja2", "plotly.graph_objects", "PIL.Image", "yaml"),
    ),
}
SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dmlstudy/core/fork_server.py")


def main(program, *arguments):
    group = group_of(program)
    setting = os.environ.get("DML_FORK_SERVER")
    if setting and group:
        # A server that is about to end closes the connection; the next attempt starts a new one.
        for _ in range(5):
            with socket.socket(socket.AF_UNIX) as server:
                if connect(server, setting, group):
                    process = ask(server, [program, *arguments])
                    if process:
                        end_like(process, server)
            time.sleep(0.01)
        print("start.py: no fork server answers; starting the program directly", file=sys.stderr)
    os.execv(sys.executable, [sys.executable, program, *arguments])


def group_of(program):
    """The group of a program, or None if it starts fast."""
    name = os.path.basename(program)
    return next((group for group, (names, _) in GROUPS.items() if name in names), None)


def connect(server, setting, group):
    """Connect a socket to the group's fork server, which is started if it does not run."""
    name, owner = setting.split(":")
    # Libraries read this variable when they are imported, so each number of threads has its own server.
    threads = os.environ.get("OMP_NUM_THREADS", "")
    # An abstract address leaves no file behind, and is free again as soon as the server has ended.
    address = f"\0{name} {group} {threads}"
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(address)
            listener.listen(1000)
        except OSError:
            pass  # The server runs.
        else:
            # The descriptor is the server's; connections wait until it has imported its packages.
            subprocess.Popen(
                [sys.executable, SERVER, str(listener.fileno()), owner, *GROUPS[group][1]],
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
    try:
        server.connect(address)
    except ConnectionRefusedError:
        return False
    # Abstract addresses have no permissions.
    _, user, _ = struct.unpack("3i", server.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if user != os.getuid():
        sys.exit("start.py: the fork server belongs to another user")
    return True


def ask(server, arguments):
    """Let the server start the program. Returns its process id, or None if the server has ended."""
    umask = os.umask(0)
    os.umask(umask)
    request = {
        "arguments": arguments,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "umask": umask,
    }
    text = json.dumps(request).encode()
    try:
        socket.send_fds(server, [struct.pack("Q", len(text))], [0, 1, 2])
        server.sendall(text)
        answer = server.recv(4, socket.MSG_WAITALL)
    except (BrokenPipeError, ConnectionResetError):
        return None
    return struct.unpack("i", answer)[0] if len(answer) == 4 else None


def end_like(process, server):
    """Wait for the program, pass signals on to it, and end as it ends.

    A terminal sends SIGINT to the program, too, so that one is only ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(process, number))
    answer = server.recv(4, socket.MSG_WAITALL)
    if len(answer) < 4:
        sys.exit("start.py: the fork server was killed, and its programs with it")
    code = os.waitstatus_to_exitcode(*struct.unpack("i", answer))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
