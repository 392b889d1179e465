"""Search in galleries of many sizes: exact, IVF, HNSW and quantised indexes of FAISS.

Vectors are drawn as embeddings lie: families, their genera, their classes, and photographs of each class, which
differ in a few directions. Up to a million vectors, everything is real. Above, only an index of product-quantised
codes fits into memory: photographs are drawn, compared with the queries and encoded part by part, and never kept.
Its lists are the families, as if a coarse quantiser had found them; the nearest image of each query is exact.
"""

import argparse
import os
import time

# Waiting threads sleep, or a busy machine becomes very slow. FAISS reads it when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import faiss
import numpy as np
from measuring import add_results_option, at_least_one, machine, write_results

# Genera of a family, classes of a genus, photographs of a class; directions in which photographs differ.
GENERA, CLASSES, PHOTOGRAPHS, DIRECTIONS = 6, 20, 50, 32
# Lengths of what a genus adds to its family, a class to its genus, and a photograph to its class.
OF_GENUS, OF_CLASS, OF_PHOTOGRAPH = 0.8, 0.6, 0.5
# Photographs of a family: one list of the large index, drawn at a time.
LIST = GENERA * CLASSES * PHOTOGRAPHS
BYTES = 16
THREADS = faiss.omp_get_max_threads()


def unit(vectors):
    """Vectors (n, dim) of length 1, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class Drawn:
    """A population of unit vectors (``count``, ``dim``), in whole genera, drawn part by part from seeds."""

    def __init__(self, count, dim, seed=0):
        self.dim, self.seed = dim, seed
        self.classes = max(1, round(count / PHOTOGRAPHS))
        self.count = self.classes * PHOTOGRAPHS
        rng = np.random.default_rng([seed, 1])
        self.directions = np.linalg.qr(rng.standard_normal((dim, min(dim, DIRECTIONS))))[0].T
        self.directions = np.ascontiguousarray(self.directions, dtype=np.float32)

    def centres(self, first, classes):
        """Centres (classes, dim) of the classes from ``first`` on."""
        found = []
        for genus in range(first // CLASSES, -(-(first + classes) // CLASSES)):
            rng = np.random.default_rng([self.seed, 5, genus // GENERA])
            family = unit(rng.standard_normal((1, self.dim)))[0]
            rng = np.random.default_rng([self.seed, 2, genus])
            both = unit(rng.standard_normal((CLASSES + 1, self.dim)))
            found.append(unit(family + OF_GENUS * both[:1]) + OF_CLASS * both[1:])
        begin = first % CLASSES
        return np.concatenate(found)[begin : begin + classes]

    def photographs(self, first, classes, each=PHOTOGRAPHS, seed=3):
        """Vectors float32 (classes · each, dim) of photographs of the classes from ``first`` on."""
        rng = np.random.default_rng([self.seed, seed, first])
        count = len(self.directions)
        places = rng.standard_normal((classes * each, count), dtype=np.float32)
        vectors = places @ (self.directions * np.float32(OF_PHOTOGRAPH / count**0.5))
        vectors += np.repeat(self.centres(first, classes), each, axis=0)
        faiss.normalize_L2(vectors)
        return vectors

    def queries(self, count):
        """(vectors (n, dim), class of each): new photographs of classes at even distances."""
        chosen = np.linspace(0, self.classes - 1, count).astype(int)
        return np.concatenate([self.photographs(int(c), 1, 1, seed=4) for c in chosen]), chosen


def timed(index, queries, k):
    """(rows (n, k), milliseconds of a query, median) of queries that come one by one."""
    rows, spent = [], []
    for query in queries:
        begun = time.perf_counter()
        found = index.search(query[None], k)[1][0]
        spent.append(time.perf_counter() - begun)
        rows.append(found)
    return np.array(rows), 1000 * float(np.median(spent))


def result(size, name, rows, truth, classes, milliseconds, megabytes, seconds):
    """A row of the table. ``truth``: exact nearest row of each query; ``classes``: class of each query."""
    nearest = rows[:, 0]
    return {
        "vectors": size,
        "index": name,
        "recall_at_1": float((nearest == truth).mean()),
        "in_the_nearest_100": float((rows == truth[:, None]).any(axis=1).mean()),
        "right_class": float((nearest // PHOTOGRAPHS == classes).mean()),
        "milliseconds_a_query": milliseconds,
        "megabytes": megabytes,
        "seconds_to_build": seconds,
    }


def quick_to_train(quantiser):
    """Let a product quantiser train on as much as it needs, not on all that it could use."""
    quantiser.cp.niter, quantiser.cp.max_points_per_centroid = 8, 64


def kinds(count, dim):
    """{name: function that makes an empty index} for so many vectors."""
    lists = 2 ** int(np.log2(max(4, 2 * count**0.5)) + 0.5)

    def ivf(kind, probes):
        def make():
            index = faiss.index_factory(dim, f"IVF{lists},{kind}", faiss.METRIC_INNER_PRODUCT)
            index.nprobe, index.cp.niter = probes, 6
            index.cp.max_points_per_centroid = 64
            if hasattr(index, "pq"):
                quick_to_train(index.pq)
            return index

        return make

    def hnsw():
        index = faiss.IndexHNSWFlat(dim, 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 40, 64
        return index

    return {
        "exact": lambda: faiss.IndexFlatIP(dim),
        f"IVF, {lists} lists, 8 searched": ivf("Flat", 8),
        f"IVF, {lists} lists, 32 searched": ivf("Flat", 32),
        "HNSW, 16 links, 64 kept": hnsw,
        "8 bits a value, all searched": lambda: faiss.IndexScalarQuantizer(
            dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        ),
        f"IVF, 8 bits a value, {lists} lists, 32 searched": ivf("SQ8", 32),
        f"IVF, {BYTES} bytes a vector, {lists} lists, 32 searched": ivf(f"PQ{BYTES}x8np", 32),
    }


def real(count, dim, queries):
    """Rows of the table for vectors that are all in memory."""
    drawn = Drawn(count, dim)
    vectors = drawn.photographs(0, drawn.classes)
    asked, classes = drawn.queries(queries)
    rows, truth = [], None
    for name, make in kinds(drawn.count, dim).items():
        begun = time.perf_counter()
        index = make()
        if not index.is_trained:
            # Its many small steps take longer with several threads that other programs interrupt.
            faiss.omp_set_num_threads(1)
            index.train(vectors)
            faiss.omp_set_num_threads(THREADS)
        index.add(vectors)
        seconds = time.perf_counter() - begun
        faiss.omp_set_num_threads(1)
        index.search(asked[:5], 100)
        found, milliseconds = timed(index, asked, 100)
        faiss.omp_set_num_threads(THREADS)
        if truth is None:
            truth = found[:, 0]
        megabytes = faiss.serialize_index(index).nbytes / 1e6
        rows.append(
            result(drawn.count, name, found, truth, classes, milliseconds, megabytes, seconds)
        )
        print(f"{drawn.count}: {name}: {seconds:.0f} s", flush=True)
    return rows


def simulated(count, dim, queries, exact):
    """Rows for a large index of codes whose vectors are never all in memory.

    ``exact``: the row of the exact search in the largest real gallery, from which its time is computed.
    """
    of_list = LIST // PHOTOGRAPHS
    drawn = Drawn(count // LIST * LIST, dim)
    lists = drawn.classes // of_list
    asked, classes = drawn.queries(queries)
    begun = time.perf_counter()
    centres = np.stack([drawn.centres(one * of_list, of_list).mean(axis=0) for one in range(lists)])
    quantiser = faiss.IndexFlatIP(dim)
    quantiser.add(centres)
    index = faiss.IndexIVFPQ(quantiser, dim, lists, BYTES, 8, faiss.METRIC_INNER_PRODUCT)
    sample = np.linspace(0, lists - 1, min(lists, 12)).astype(int)
    faiss.omp_set_num_threads(1)
    quick_to_train(index.pq)
    index.pq.train(
        np.concatenate([drawn.photographs(int(s) * of_list, of_list) - centres[s] for s in sample])
    )
    faiss.omp_set_num_threads(THREADS)
    index.is_trained = True
    best, truth = np.full(queries, -np.inf, dtype=np.float32), np.zeros(queries, dtype=np.int64)
    searching = 0.0
    for one in range(lists):
        vectors = drawn.photographs(one * of_list, of_list)
        places = np.full(len(vectors), one, dtype=np.int64)
        ids = np.arange(one * LIST, (one + 1) * LIST, dtype=np.int64)
        index.add_core(
            len(vectors), faiss.swig_ptr(vectors), faiss.swig_ptr(ids), faiss.swig_ptr(places)
        )
        start = time.perf_counter()
        similarities = asked @ vectors.T
        nearest = similarities.argmax(axis=1)
        values = similarities[np.arange(queries), nearest]
        better = values > best
        best[better], truth[better] = values[better], ids[nearest[better]]
        searching += time.perf_counter() - start
        if one % max(1, lists // 20) == 0:
            print(f"{one * LIST:,} of {drawn.count:,} encoded", flush=True)
    seconds = time.perf_counter() - begun - searching
    megabytes = (
        sum(index.invlists.list_size(one) for one in range(lists)) * (BYTES + 8)
        + centres.nbytes
        + index.pq.M * index.pq.ksub * index.pq.dsub * 4
    ) / 1e6
    factor = drawn.count / exact["vectors"]
    rows = [
        {
            "vectors": drawn.count,
            "index": "exact (time and memory computed)",
            "recall_at_1": 1.0,
            "in_the_nearest_100": 1.0,
            "right_class": float((truth // PHOTOGRAPHS == classes).mean()),
            "milliseconds_a_query": exact["milliseconds_a_query"] * factor,
            "megabytes": exact["megabytes"] * factor,
            "seconds_to_build": np.nan,
        }
    ]
    faiss.omp_set_num_threads(1)
    for probes in (8, 64):
        index.nprobe = probes
        index.search(asked[:5], 100)
        found, milliseconds = timed(index, asked, 100)
        name = f"IVF, {BYTES} bytes a vector, {lists} lists, {probes} searched"
        rows.append(
            result(drawn.count, name, found, truth, classes, milliseconds, megabytes, seconds)
        )
    faiss.omp_set_num_threads(THREADS)
    return rows


def likeness(dim):
    """Mean similarity of photographs of one class, of one genus, and of two genera of a family."""
    drawn = Drawn(200 * PHOTOGRAPHS, dim)
    vectors = drawn.photographs(0, 2 * CLASSES)
    similar = vectors @ vectors.T
    classes = np.repeat(np.arange(2 * CLASSES), PHOTOGRAPHS)
    genera = classes // CLASSES
    same = classes[:, None] == classes
    near = (genera[:, None] == genera) & ~same
    np.fill_diagonal(same, False)
    return [float(similar[one].mean()) for one in (same, near, genera[:, None] != genera)]


def text(rows, dim, queries, peak):
    """The result as a table of Markdown, and how it was measured."""
    of_class, of_genus, of_others = likeness(dim)
    lines = [
        f"{machine('faiss-cpu', 'numpy')}, {THREADS} threads to add, 1 to train and to search",
        f"{dim} dimensions, {queries} queries one by one, 100 neighbours each; similarity of photographs of a "
        f"class {of_class:.2f}, of a genus {of_genus:.2f}, of a family {of_others:.2f}; peak memory "
        f"{peak / 1e9:.1f} GB",
        "",
        "| vectors | index | recall@1 | in the nearest 100 | right class | ms a query | MB | s to build |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        built = "" if np.isnan(row["seconds_to_build"]) else f"{row['seconds_to_build']:.0f}"
        lines.append(
            f"| {row['vectors']:,} | {row['index']} | {row['recall_at_1']:.3f} | "
            f"{row['in_the_nearest_100']:.3f} | {row['right_class']:.3f} | "
            f"{row['milliseconds_a_query']:.2f} | {row['megabytes']:,.0f} | {built} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes",
        type=at_least_one,
        nargs="+",
        default=[10_000, 1_000_000],
        help="vectors of galleries that are in memory (10000 1000000)",
    )
    parser.add_argument(
        "--simulated",
        type=int,
        default=100_000_000,
        help="vectors of the large index of codes (100000000); 0: none",
    )
    parser.add_argument("--queries", type=at_least_one, default=200)
    parser.add_argument("--dimensions", type=at_least_one, default=128)
    add_results_option(parser)
    args = parser.parse_args()
    rows = []
    for size in args.sizes:
        rows += real(size, args.dimensions, args.queries)
        write(args, rows)
    if args.simulated:
        exact = [row for row in rows if row["index"] == "exact"][-1]
        rows += simulated(args.simulated, args.dimensions, args.queries, exact)
        write(args, rows)


def write(args, rows):
    """Write what is measured so far: the last size takes longest."""
    with open("/proc/self/status", encoding="ascii") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    write_results(args.results, "search", text(rows, args.dimensions, args.queries, peak), rows)


if __name__ == "__main__":
    main()
