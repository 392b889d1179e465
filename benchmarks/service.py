"""The service under load: requests of several clients at once, beside a loop that names the same photographs.

    .venv/bin/python benchmarks/service.py --run results/experiments/NAME/seed42/all_classes --photographs FOLDER

The loop has the photographs in one list and names them in batches, as name_photos.py does; the service gets each in
a request of its own. In turn: loop, one client, load, loop. The index of the run is copied, nothing is changed.
"""

import argparse
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import numpy as np
from measuring import (
    PROGRAMS,
    Side,
    add_results_option,
    at_least_one,
    cpu_seconds,
    machine,
    memory_of,
    write_results,
)

from dmlstudy.use.photographs import MAX_PIXELS, find_photos

LOOP_SECONDS, ALONE_SECONDS = 20, 10
BOUNDARY = "photographs-of-the-benchmark"


def loop_arms(run, photographs, seconds):
    """The loop: {name: function}; what it reached is written to a file beside the run."""
    from dmlstudy.use.gallery import classify
    from dmlstudy.use.index_files import read_gallery
    from dmlstudy.use.trained_model import TrainedModel

    model = TrainedModel(run / "model.pt")
    gallery = read_gallery(run / "index", run / "model.pt")

    def loop():
        begun, cpu_before, done = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - begun < seconds:
            embeddings, *_ = model.embed(photographs, max_pixels=MAX_PIXELS)
            classify(gallery, embeddings, 10, threads=model.threads)
            done += len(photographs)
        passed = time.perf_counter() - begun
        cpu = (time.process_time() - cpu_before) / done
        (run / "loop.txt").write_text(f"{done / passed} {cpu}")

    return {"loop": loop}


def body_of(path):
    """A request's body with one photograph."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="photographs"; filename="{path.name}"\r\n\r\n'
    return head.encode() + path.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()


class Client(threading.Thread):
    """Names one photograph after another until ``end``; ``seconds`` of each request, ``wrong`` answers."""

    def __init__(self, port, bodies, end):
        super().__init__()
        self.port, self.bodies, self.end = port, bodies, end
        self.seconds, self.wrong = [], []

    def run(self):
        head = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while time.perf_counter() < self.end:
            body = self.bodies[len(self.seconds) % len(self.bodies)]
            begun = time.perf_counter()
            try:
                connection.request("POST", "/api/name?keep=false", body, head)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200 or b'"similarity"' not in text:
                    self.wrong.append(text[:200])
            except OSError as error:
                self.wrong.append(repr(error))
                connection.close()
            self.seconds.append(time.perf_counter() - begun)
        connection.close()


def load(port, bodies, clients, seconds, watched):
    """Clients for some seconds: (clients, seconds that passed, anonymous bytes of the process over time)."""
    begun = time.perf_counter()
    started = [
        Client(port, bodies[index:] + bodies[:index], begun + seconds) for index in range(clients)
    ]
    for client in started:
        client.start()
    memory = []
    while any(client.is_alive() for client in started):
        memory.append(memory_of(watched)[0])
        time.sleep(min(1, seconds / 20))
    return started, time.perf_counter() - begun, memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of a finished run with an index"
    )
    parser.add_argument(
        "--photographs", type=Path, required=True, help="folder of photographs to name"
    )
    parser.add_argument("--count", type=at_least_one, default=256, help="photographs of it (256)")
    parser.add_argument("--clients", type=at_least_one, default=8)
    parser.add_argument("--seconds", type=at_least_one, default=60)
    add_results_option(parser)
    args = parser.parse_args()
    found = find_photos([args.photographs])[0]
    rng = np.random.default_rng(0)
    chosen = [found[index] for index in rng.permutation(len(found))[: args.count]]
    bodies = [body_of(path) for path in chosen]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, *args.run.resolve().parts[-4:])
        run.mkdir(parents=True)
        shutil.copy(args.run / "model.pt", run)
        shutil.copytree(args.run / "index", run / "index")
        loop, rates, costs = Side(loop_arms, (run, chosen, LOOP_SECONDS)), [], []

        def measure_loop():
            loop.run("loop")
            rate, cpu = map(float, (run / "loop.txt").read_text().split())
            rates.append(rate)
            costs.append(cpu)

        command = [sys.executable, PROGRAMS / "serve.py", "--run", run, "--port", "0"]
        service = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        try:
            port = int(re.search(r":(\d+) ", service.stdout.readline()).group(1))
            load(port, bodies, 2, 3, service.pid)
            measure_loop()
            (alone,), _, _ = load(port, bodies, 1, ALONE_SECONDS, service.pid)
            before = cpu_seconds(service.pid)
            clients, passed, memory = load(port, bodies, args.clients, args.seconds, service.pid)
            spent = cpu_seconds(service.pid) - before
            measure_loop()
        finally:
            service.terminate()
            service.wait()
            loop.close()
    times = np.concatenate([client.seconds for client in clients])
    wrong = [text for client in [alone, *clients] for text in client.wrong]
    single, rate = np.median(alone.seconds), len(times) / passed
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    third = len(memory) // 3
    early, late = np.median(memory[third : 2 * third]), np.median(memory[2 * third :])
    row = {
        "clients": args.clients,
        "seconds": passed,
        "requests": len(times),
        "errors": len(wrong),
        "photographs_per_second": rate,
        "loop_photographs_per_second": np.mean(rates),
        "of_the_loop": rate / np.mean(rates),
        "cpu_ms": 1000 * spent / len(times),
        "loop_cpu_ms": 1000 * np.mean(costs),
        "single_ms": 1000 * single,
        "p50_ms": 1000 * p50,
        "p95_ms": 1000 * p95,
        "p99_ms": 1000 * p99,
        "p95_of_single": p95 / single,
        "memory_mb": late / 1e6,
        "memory_growth": late / early - 1,
    }
    lines = [
        machine("torch", "fastapi", "uvicorn"),
        "",
        f"{args.run.parts[-3]}, {len(chosen)} photographs, {args.clients} clients, {passed:.0f} s",
        f"service: {rate:.1f} photographs/s, {100 * row['of_the_loop']:.0f} % of the loop "
        f"({', '.join(f'{one:.1f}' for one in rates)} photographs/s before and after)",
        f"CPU time of a photograph: {row['cpu_ms']:.1f} ms, of the loop {row['loop_cpu_ms']:.1f} ms",
        f"a request: alone {row['single_ms']:.0f} ms; under load {row['p50_ms']:.0f} ms (median), "
        f"{row['p95_ms']:.0f} ms (95 %), {row['p99_ms']:.0f} ms (99 %): 95 % within {row['p95_of_single']:.1f} × alone",
        f"errors: {len(wrong)} of {len(times)} requests {wrong[:1] or ''}",
        f"memory: {row['memory_mb']:.0f} MB, {100 * row['memory_growth']:+.1f} % from the second to the last third",
    ]
    write_results(args.results, "service", "\n".join(lines), [row])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
