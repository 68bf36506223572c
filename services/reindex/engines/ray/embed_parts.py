"""Embeds posts parts on a Ray cluster: one task a part, each of which runs `bowerbird embed`.

Parts, output, program and models must have the same paths on every node. A task that is lost with its node is started
again by Ray; `bowerbird embed` gives a part its name only when it is whole, and keeps one that is.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import time
import uuid

import ray


class Interrupted(Exception):
    """The program was killed, for want of memory perhaps: it may work elsewhere."""


def embed(part, out, options):
    """Embeds one part; gives what the program reports. `.attempts` gets a file each time, so that retries are counted."""
    attempts = pathlib.Path(out).parent / ".attempts"
    (attempts / f"{pathlib.Path(out).name}.{uuid.uuid4()}").touch()
    command = [options["bowerbird"], "embed", "--in", part, "--out", out, "--threads", "1", "--json"]
    if options["models_dir"]:
        command += ["--models-dir", options["models_dir"]]
    if options["embedder"]:
        command += ["--embedder", options["embedder"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise Interrupted(f"{part}: signal {-done.returncode}")
    if done.returncode != 0:
        raise RuntimeError(f"{part}: exit code {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", required=True, type=pathlib.Path, help="directory of `bowerbird export`")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="directory for the parts with vectors")
    parser.add_argument("--bowerbird", default="bowerbird", help="the program, on every node")
    parser.add_argument("--models-dir", help="model files, on every node; the program's own when absent")
    parser.add_argument("--embedder", help="embedder of the catalog; that of the configuration when absent")
    parser.add_argument("--address", default="auto", help="the cluster, HOST:PORT of its head")
    parser.add_argument("--max-retries", type=int, default=3, help="how often a lost task is started again")
    return parser.parse_args()


def main():
    args = arguments()
    parts = sorted(path for path in args.parts.resolve().glob("*.parquet") if not path.name.startswith("."))
    if not parts:
        sys.exit(f"error: {args.parts} holds no .parquet files: make them with `bowerbird export`")
    out = args.out.resolve()
    attempts = out / ".attempts"
    shutil.rmtree(attempts, ignore_errors=True)
    attempts.mkdir(parents=True)
    options = {"bowerbird": args.bowerbird, "models_dir": args.models_dir, "embedder": args.embedder}

    ray.init(address=args.address, log_to_driver=False)
    task = ray.remote(embed).options(
        num_cpus=1, max_retries=args.max_retries, retry_exceptions=[Interrupted], scheduling_strategy="SPREAD"
    )
    begun = time.monotonic()
    running = {task.remote(str(part), str(out / part.name), options): part.name for part in parts}
    reports, failures = [], []
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        name = running.pop(done)
        try:
            reports.append(ray.get(done))
            print(f"{len(reports)}/{len(parts)} {name}", file=sys.stderr, flush=True)
        except ray.exceptions.RayError as error:
            failures.append(f"{name}: {error}")
    seconds = time.monotonic() - begun
    tried = len(list(attempts.iterdir()))
    shutil.rmtree(attempts, ignore_errors=True)
    posts = sum(report["posts"] for report in reports)
    summary = {
        "parts": len(reports),
        "posts": posts,
        "refused": sum(report["refused"] for report in reports),
        "seconds": round(seconds, 3),
        "posts_per_second": round(posts / seconds, 1),
        "retries": max(tried - len(parts), 0),
        "failed": failures,
    }
    print(json.dumps(summary))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
