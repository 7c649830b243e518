"""How much `serve` bears: wrk against it and against plain FastAPI, in turns.

    apt-get install wrk
    python -m tests.support.serve_load tb_logs/cnn/version_0/checkpoints/best.ckpt

Each of 1, 16 and 64 connections asks about another of MNIST's test images as soon as it has its
answer, and checks that it is the answer to its own question. Prints a table and writes a JSON
record.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.programs import ROOT
from benchmarks.records import (
    Cell,
    Record,
    by_peer,
    least_to_most,
    machine,
    median,
    our_versions,
    provenance,
    write_record,
)

CONNECTIONS = (1, 16, 64)
NUM_QUESTIONS = 500
SERVERS = {
    "serve": ["-m", "mnist_cnn", "serve", "{checkpoint}", "--port", "{port}"],
    "plain FastAPI": ["-m", "tests.support.plain_fastapi", "{checkpoint}", "{port}"],
}
START_TIMEOUT = 120  # seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/serve_load.json")
    args = parser.parse_args(argv)
    if shutil.which("wrk") is None:
        sys.exit("there is no wrk on the PATH: apt-get install wrk")

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        questions = {name: Path(folder) / f"{name}.lua" for name in SERVERS}
        write_questions(args.checkpoint, questions)
        with running(args.checkpoint) as urls:
            for round_number in range(1 + args.rounds):
                for connections in CONNECTIONS:
                    for name, url in urls.items():
                        seconds = args.seconds if round_number else 1  # the first is to warm up
                        row = {"server": name, "connections": connections, "round": round_number}
                        row |= measure(url, connections, seconds, questions[name])
                        rows += [row] if round_number else []
                        print(row, flush=True)
    names = ("fastapi", "uvicorn")
    versions = our_versions() | {name: version(name) for name in names}
    record: Record = {"machine": machine(), "versions": versions, "rows": rows}
    write_record(args.out, record)
    print(table(record))


def write_questions(checkpoint: Path, paths: dict[str, Path]) -> None:
    """Write requests and the answers that each server must give, as tables of Lua's."""
    import torch

    from mnist_cnn.checkpoints.classifier import load_classifier
    from mnist_cnn.data import MNISTDataModule
    from mnist_cnn.use.classifier import Probabilities
    from mnist_cnn.use.reading import PLAIN

    data = MNISTDataModule(str(ROOT / "data"))
    data.prepare_data()
    data.setup()
    images = data.test_set.images[:NUM_QUESTIONS]
    probabilities = Probabilities(load_classifier(checkpoint)[0])
    with torch.inference_mode():
        first = probabilities.over_shifts(images, 0).max(dim=1).values
        confidences, digits = probabilities(images).max(dim=1)
    for name, path in paths.items():
        answers = first.where(first >= PLAIN, confidences) if name == "serve" else confidences
        rows = zip(images.tolist(), digits.tolist(), answers.tolist(), strict=True)
        lines = [
            f"{{body='{json.dumps({'pixels': image})}', digit={digit}, confidence={p:.6f}}},"
            for image, digit, p in rows
        ]
        path.write_text("\n".join(["return {", *lines, "}"]) + "\n")


@contextmanager
def running(checkpoint: Path) -> Iterator[dict[str, str]]:
    """The servers' addresses, while they run."""
    processes, urls = [], {}
    try:
        for name, command in SERVERS.items():
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            words = [word.format(checkpoint=checkpoint.resolve(), port=port) for word in command]
            processes.append(subprocess.Popen([sys.executable, *words], cwd=ROOT))
            urls[name] = f"http://127.0.0.1:{port}/predict"
            wait_for(port)
        yield urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=60)


def wait_for(port: int) -> None:
    """Wait until a server answers at all."""
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.settimeout(START_TIMEOUT)
                connection.sendall(b"GET /openapi.json HTTP/1.0\r\n\r\n")
                if connection.recv(100):
                    return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"no server answers at port {port}")


def measure(url: str, connections: int, seconds: int, questions: Path) -> dict[str, Any]:
    """Let wrk ask for so many seconds."""
    counts = ["-t", str(connections), "-c", str(connections), "-d", str(seconds)]
    script = str(Path(__file__).with_suffix(".lua"))
    command = ["wrk", *counts, "--timeout", "10s", "-s", script, url, "--", str(questions)]
    done = subprocess.run(command, capture_output=True, text=True)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not results:
        sys.exit(f"{' '.join(command)}\nfailed:\n{done.stdout}{done.stderr}")
    result = json.loads(results[0].removeprefix("RESULT "))
    return result | {"requests/s": result["requests"] / result["seconds"]}


def table(record: Record) -> str:
    """The record as a Markdown table of medians over the rounds, and what went wrong."""
    columns: dict[str, Cell] = {
        "requests/s": median("requests/s", 0),
        "range": least_to_most("requests/s", 0),
        "p50, ms": median("p50_ms", 1),
        "p99, ms": median("p99_ms", 1),
        "answered": lambda figures: f"{sum(figures['requests']):.0f}",
        "lost or wrong": lambda figures: f"{sum(figures['lost']) + sum(figures['wrong']):.0f}",
    }
    rows = sorted(record["rows"], key=lambda row: row["connections"])
    named = [row | {"peer": f"{row['server']}, {row['connections']}"} for row in rows]
    return (
        records.table("server, connections", by_peer(named), columns)
        + f"\n\nShared with wrk: {provenance(record)}"
    )


if __name__ == "__main__":
    main()
