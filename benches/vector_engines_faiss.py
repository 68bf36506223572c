"""faiss on the vectors that the bench `vector_engines` wrote; prints rows for its table.

    python3 vector_engines_faiss.py DIR --m 16 --ef-construction 200 --threads 2 --ef 16,32,64

DIR holds base.npy, queries.npy and truth.npy (score of the tenth nearest of each query). Makes a virtual environment
in ~/.cache/bowerbird-faiss on the first call. Builds with `threads`, searches with one thread, one query at a time.
"""

import argparse
import time
from pathlib import Path

from environment import enter

REQUIREMENTS = ["faiss-cpu==1.12.0", "numpy==2.2.6"]
K = 10


def measure(name, index, base, queries, truth, args):
    import faiss
    import numpy as np

    faiss.omp_set_num_threads(args.threads)
    wall, cpu = time.perf_counter(), time.process_time()
    if not index.is_trained:
        index.train(base[:100_000])
    index.hnsw.efConstruction = args.ef_construction
    index.add(base)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    size = faiss.serialize_index(index).nbytes / len(base)
    print(f"{name}: built in {wall:.0f} s, {cpu:.0f} CPU-s; {size:.0f} bytes a point in memory and on disk", flush=True)
    faiss.omp_set_num_threads(1)
    for ef in args.ef:
        index.hnsw.efSearch = ef
        found, times, cpu_times = 0, [], []
        for counted in (False, True):
            for at in range(len(queries)):
                query = queries[at : at + 1]
                start, cpu = time.perf_counter(), time.thread_time()
                _, ids = index.search(query, K)
                cpu, wall = time.thread_time() - cpu, time.perf_counter() - start
                if counted:
                    times.append(wall)
                    cpu_times.append(cpu)
                    found += int(np.sum(base[ids[0]] @ query[0] >= truth[at, 0] - 1e-6))
        quantiles = [*np.quantile(cpu_times, [0.5, 0.99]), *np.quantile(times, [0.5, 0.99])]
        recall = found / (K * len(queries))
        print(f"{name}\t{ef}\t{recall:.6f}", *(f"{seconds * 1e3:.6f}" for seconds in quantiles), sep="\t", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--m", type=int, required=True)
    parser.add_argument("--ef-construction", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--ef", type=lambda text: [int(ef) for ef in text.split(",")], required=True)
    args = parser.parse_args()
    enter("bowerbird-faiss", REQUIREMENTS)
    import faiss
    import numpy as np

    base, queries, truth = (np.load(args.dir / f"{name}.npy") for name in ("base", "queries", "truth"))
    dim, ip = base.shape[1], faiss.METRIC_INNER_PRODUCT
    print(f"faiss {faiss.__version__}, {faiss.get_compile_options()}")
    kinds = {
        "faiss-flat-f32": lambda: faiss.IndexHNSWFlat(dim, args.m, ip),
        "faiss-sq-fp16": lambda: faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, args.m, ip),
        "faiss-sq-8bit": lambda: faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, args.m, ip),
    }
    for name, make in kinds.items():
        measure(name, make(), base, queries, truth, args)


if __name__ == "__main__":
    main()
