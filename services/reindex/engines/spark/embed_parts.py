"""Embeds posts parts on Spark: each partition goes through a temporary part file and `bowerbird embed`.

Parts, output, program and models must have the same paths on every executor. A partition always gets the same name in
the output, and `bowerbird embed` gives a part its name only when it is whole: a task that is started again is harmless.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import pyarrow
import pyarrow.parquet
from pyspark import TaskContext
from pyspark.sql import SparkSession

REPORT = "part string, posts long, refused long, attempt int"


def embedder(out, bowerbird, models_dir, embedder_name):
    """The function that Spark runs on each partition: record batches of posts in, one report out."""

    def embed(batches):
        context = TaskContext.get()
        name = f"part-{context.partitionId():05}.parquet"
        with tempfile.TemporaryDirectory(prefix="bowerbird-") as scratch:
            part, writer = pathlib.Path(scratch) / name, None
            for batch in batches:
                if batch.num_rows:
                    writer = writer or pyarrow.parquet.ParquetWriter(part, batch.schema)
                    writer.write_batch(batch)
            if writer is None:  # Spark cuts files by bytes: some pieces hold no row group
                return
            writer.close()
            command = [bowerbird, "embed", "--in", part, "--out", pathlib.Path(out) / name, "--threads", "1", "--json"]
            command += ["--models-dir", models_dir] if models_dir else []
            command += ["--embedder", embedder_name] if embedder_name else []
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{name}: exit code {done.returncode}: {done.stderr.strip()}")
        report = json.loads(done.stdout)
        columns = [[name], [report["posts"]], [report["refused"]], [context.attemptNumber()]]
        types = [pyarrow.string(), pyarrow.int64(), pyarrow.int64(), pyarrow.int32()]
        arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, types)]
        yield pyarrow.RecordBatch.from_arrays(arrays, ["part", "posts", "refused", "attempt"])

    return embed


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", required=True, type=pathlib.Path, help="directory of `bowerbird export`")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="directory for the parts with vectors")
    parser.add_argument("--bowerbird", default="bowerbird", help="the program, on every executor")
    parser.add_argument("--models-dir", help="model files, on every executor; the program's own when absent")
    parser.add_argument("--embedder", help="embedder of the catalog; that of the configuration when absent")
    parser.add_argument("--master", help="the cluster, such as spark://HOST:7077; that of spark-submit when absent")
    return parser.parse_args()


def main():
    args = arguments()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    builder = SparkSession.builder.appName("bowerbird embed")
    builder = builder.master(args.master) if args.master else builder
    # One partition for about each megabyte of posts. Both must be set: a larger cost of opening a file packs small
    # parts together, and smaller bytes cut a file into pieces without rows.
    builder = builder.config("spark.sql.files.maxPartitionBytes", "1m").config("spark.sql.files.openCostInBytes", "1m")
    builder = builder.config("spark.sql.session.timeZone", "UTC").config("spark.sql.execution.arrow.maxRecordsPerBatch", 1000)
    spark = builder.getOrCreate()
    begun = time.monotonic()
    posts = spark.read.parquet(str(args.parts.resolve()))
    if posts.isEmpty():
        sys.exit(f"error: {args.parts} holds no posts: make parts with `bowerbird export`")
    work = embedder(str(out), args.bowerbird, args.models_dir, args.embedder)
    reports = posts.mapInArrow(work, REPORT).collect()
    seconds = time.monotonic() - begun
    number = sum(report.posts for report in reports)
    summary = {
        "parts": len(reports),
        "posts": number,
        "refused": sum(report.refused for report in reports),
        "seconds": round(seconds, 3),
        "posts_per_second": round(number / seconds, 1),
        "retries": sum(report.attempt for report in reports),
    }
    print(json.dumps(summary))
    spark.stop()


if __name__ == "__main__":
    main()
