"""How near `skag describe` comes to the ideal with a server that takes its time, and how long it takes from the store.

    python benchmarks/describe_latency.py [--classes 60] [--latency 0.2] [--folder FOLDER]

The server is a process of its own on the loopback interface that speaks the OpenAI protocol and answers after the
latency, as many questions at a time as it is asked. The ideal is questions x latency / jobs. Wall times
are those of the whole command; its start is the larger part of what it takes with all answers in the store.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Process, SimpleQueue
from pathlib import Path

import numpy as np

from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, write_store

ANSWERS = ("It goes up.", "head: still", "1, 4", "4-head: nods", "The head nods slowly.")


def serve(latency: float, port: SimpleQueue) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(latency)
            message = {"role": "assistant", "content": ANSWERS[len(body["messages"]) // 2 - 1]}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 500, "completion_tokens": 20, "total_tokens": 520}
            data = json.dumps({"id": "1", "model": "slow", "choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.put(server.server_port)
    server.serve_forever()


def write_classes(path: Path, classes: int) -> None:
    """A skeleton store of motionless clips: only its class names and joints matter here."""
    with write_store(path, load_layout("nturgb+d")) as writer:
        for label in range(classes):
            for split in ("xsub_train", "xsub_test"):
                clip = np.zeros((1, 2, 25, 3), np.float32)
                writer.add(Clip(f"{split}-{label}", label, clip, splits=(split,)))
        writer.finish([f"action {label}" for label in range(classes)])


def describe(folder: Path, store: str, port: int, jobs: int) -> tuple[float, float, dict]:
    """Wall time and processor time in seconds, and the report, of one `skag describe`."""
    command = [sys.executable, "-m", "skag", "describe", "clips.h5", "--llm", "openai/slow", "--store", store]
    command += ["--base-url", f"http://127.0.0.1:{port}/v1", "--jobs", str(jobs), "--json", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    start, used = time.perf_counter(), os.times()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    seconds, now = time.perf_counter() - start, os.times()
    processor = now.children_user + now.children_system - used.children_user - used.children_system
    return seconds, processor, json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=60)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--folder", help="where to work, on the disk to be measured")
    given = parser.parse_args()
    port: SimpleQueue = SimpleQueue()
    server = Process(target=serve, args=(given.latency, port), daemon=True)
    server.start()
    questions = given.classes * len(SCRIPT.rounds)
    try:
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            folder, number = Path(name), port.get()
            write_classes(folder / "clips.h5", given.classes)
            for jobs in (1, 8):
                ideal = questions * given.latency / jobs
                seconds, processor, report = describe(folder, f"{jobs}.h5", number, jobs)
                assert report["asked"] == questions and not report["failed"]
                stored, stored_processor, report = describe(folder, f"{jobs}.h5", number, jobs)
                assert report["cached"] == questions
                asking = seconds - stored
                print(
                    f"--jobs {jobs}: {seconds:.2f} s (processor {processor:.2f} s), ideal {ideal:.2f} s, ratio "
                    f"{seconds / ideal:.2f}; with all {questions} answers in the store {stored:.2f} s (processor "
                    f"{stored_processor:.2f} s), ratio without these {asking / ideal:.2f}"
                )
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
