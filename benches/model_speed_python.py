"""The same models and the same search in Python, driven by the bench `model_speed` over standard input and output.

    python3 model_speed_python.py MODELS

MODELS holds bge-small-en-v1.5/ and ms-marco-MiniLM-L-12-v2/. Each input line is a JSON object and each output line its
reply with the seconds it took, monotonic and CPU of all threads:

    {"do": "index", "texts": [..], "vectors": [[..]]}    bm25s and faiss over both, exact
    {"do": "embed", "texts": [..]}                       one text a call, one thread
    {"do": "score", "query": "..", "texts": [..]}        one pair a call, one thread
    {"do": "search", "query": "..", "depth": 16, "threads": 2}

Makes a virtual environment in ~/.cache/bowerbird-python-speed on the first call.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from environment import enter

REQUIREMENTS = [
    "bm25s==0.3.16", "faiss-cpu==1.12.0", "numpy==2.2.6", "onnxruntime==1.32.0", "PyStemmer==3.1.0", "tokenizers==0.23.3",
]
PREFIX = "Represent this sentence for searching relevant passages: "
CLS, SEP = 101, 102
DEPTH = 100
DENSE_WEIGHT, BLEND = 0.7, 0.3


class Model:
    """A session of one thread and its tokenizer."""

    def __init__(self, folder):
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def run(self, ids, types):
        import numpy as np

        ids = np.array([ids], np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.array([types], np.int64)}
        return self.session.run(None, inputs)[0]


class Stack:
    """A hybrid search as one would write it: bm25s, faiss, both models, fused and blended as the peer's best row."""

    def __init__(self, models):
        self.embedder = Model(models / "bge-small-en-v1.5")
        self.reranker = Model(models / "ms-marco-MiniLM-L-12-v2")
        self.pools = {}

    def index(self, texts, vectors):
        import bm25s
        import faiss
        import numpy as np
        import Stemmer

        self.texts, self.stemmer = texts, Stemmer.Stemmer("english")
        self.lexical = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
        self.lexical.index(
            bm25s.tokenize(texts, stopwords="en", stemmer=self.stemmer, show_progress=False), show_progress=False
        )
        self.pairs = [self.reranker.ids(text)[:160] for text in texts]
        faiss.omp_set_num_threads(1)
        self.dense = faiss.IndexFlatIP(len(vectors[0]))
        self.dense.add(np.array(vectors, np.float32))

    def embed(self, text):
        import numpy as np

        ids = [CLS, *self.embedder.ids(text)[:510], SEP]
        vector = self.embedder.run(ids, [0] * len(ids))[0, 0]
        return vector / np.linalg.norm(vector)

    def score(self, query, passage):
        query = query[:128]
        passage = passage[: 509 - len(query)]
        ids = [CLS, *query, SEP, *passage, SEP]
        return float(self.reranker.run(ids, [0] * (len(query) + 2) + [1] * (len(passage) + 1))[0, 0])

    def search(self, query, depth, threads):
        import bm25s
        import numpy as np

        words = bm25s.tokenize(
            [query], stopwords="en", stemmer=self.stemmer, return_ids=False, show_progress=False
        )[0]
        scores = self.lexical.get_scores(words) if words else np.zeros(len(self.texts), np.float32)
        lexical = np.argpartition(-scores, DEPTH)[:DEPTH]
        lexical = lexical[scores[lexical] > 0]
        vector = self.embed(PREFIX + query)
        cosines, found = self.dense.search(vector[None, :].astype(np.float32), DEPTH)
        pool = np.union1d(lexical, found[0])
        dense = self.dense.reconstruct_batch(pool) @ vector
        fused = (1 - DENSE_WEIGHT) * scaled(scores[pool]) + DENSE_WEIGHT * scaled(dense)
        order = np.argsort(-fused, kind="stable")
        head = order[:depth]
        ids = self.reranker.ids(query)
        pair = lambda at: self.score(ids, self.pairs[pool[at]])
        pool_of = self.pools.setdefault(threads, ThreadPoolExecutor(threads)) if threads > 1 else None
        logits = np.array(list(pool_of.map(pair, head)) if pool_of else [pair(at) for at in head])
        blended = (1 - BLEND) * scaled(fused[head]) + BLEND * scaled(logits)
        order = np.concatenate([head[np.argsort(-blended, kind="stable")], order[depth:]])
        return pool[order[:10]].tolist()


def scaled(values):
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else values * 0 + 1


def main():
    stack = Stack(Path(sys.argv[1]))
    for line in sys.stdin:
        task = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        match task["do"]:
            case "index":
                reply = stack.index(task["texts"], task["vectors"])
            case "embed":
                reply = [stack.embed(text).tolist() for text in task["texts"]]
            case "score":
                ids = stack.reranker.ids(task["query"])
                reply = [stack.score(ids, stack.reranker.ids(text)) for text in task["texts"]]
            case "search":
                reply = stack.search(task["query"], task["depth"], task["threads"])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"value": reply, "wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    enter("bowerbird-python-speed", REQUIREMENTS, OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    main()
