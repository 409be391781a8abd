"""Backends for tests: servers on loopback that speak the wire format of Ollama and OpenAI, and a scripted one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from skag.backends import Answer, BackendError, Message, Topic
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import Layout


@dataclass
class Fault:
    """What goes wrong with one chat request."""

    status: int = 200
    body: bytes | None = None  # instead of the usual one
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0  # before the first byte
    cut: int | None = None  # the connection breaks off after so many bytes ...
    stall: float = 0.0  # ... or nothing more comes for so many seconds


@dataclass
class Server:
    """A running server: what it was sent, and what it does next."""

    address: str = ""
    reply: Callable[[list[Message]], str] = lambda messages: "The right hand moves up."
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, dict, dict]] = field(default_factory=list)  # path, headers, JSON body
    extra: dict = field(default_factory=dict)  # more fields of a chat reply
    message: dict = field(default_factory=dict)  # more fields of its message
    capabilities: list[str] = field(default_factory=lambda: ["completion"])
    context_length: int = 131072
    context_used: int | None = None  # Ollama: what it works with, where that is not what it was asked for
    installed: set[str] = field(default_factory=lambda: {"tiny:latest"})  # Ollama
    served: list[str] | None = None  # OpenAI: what it says it serves, None where it cannot say

    def chats(self) -> list[dict]:
        return [body for path, _, body in self.requests if path.endswith(("/chat", "/completions"))]

    def ollama(self, path: str, body: dict) -> tuple[int, dict | list[dict]]:
        if path == "/api/tags":
            return 200, {"models": [{"model": name, "digest": "abc123", "size": 1} for name in sorted(self.installed)]}
        if path == "/api/ps":
            chats = self.chats()
            used = self.context_used or (chats[-1]["options"]["num_ctx"] if chats else 4096)
            return 200, {"models": [{"model": "tiny:latest", "digest": "abc123", "context_length": used}]}
        if path == "/api/pull":
            return 200, self.pulled(body["model"])
        if body.get("model") not in ("tiny", "tiny:latest") or not self.installed:
            return 404, {"error": f"model '{body.get('model')}' not found"}
        if path == "/api/show":
            info = {"general.architecture": "llama", "llama.context_length": self.context_length}
            return 200, {"model_info": info, "capabilities": self.capabilities}
        message = {"role": "assistant", "content": self.reply(body["messages"]), **self.message}
        usage = {"done": True, "done_reason": "stop", "prompt_eval_count": 40, "eval_count": 9}
        return 200, {"model": "tiny", "message": message, **usage, **self.extra}

    def pulled(self, model: str) -> list[dict]:
        """The lines of a pull."""
        if model != "tiny":
            return [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]
        self.installed.add("tiny:latest")
        steps = [("sha256:a", 0, 70), ("sha256:a", 70, 70), ("sha256:b", 30, 30)]
        layers = [{"status": "pulling", "digest": name, "completed": n, "total": total} for name, n, total in steps]
        return [{"status": "pulling manifest"}, *layers, {"status": "success"}]

    def openai(self, path: str, body: dict) -> tuple[int, dict]:
        if path == "/v1/models" and self.served is not None:
            return 200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.served]}
        if path != "/v1/chat/completions" or body.get("model") != "tiny":
            return 404, {"error": {"message": "no such model", "code": "model_not_found"}}
        message = {"role": "assistant", "content": self.reply(body["messages"]), **self.message}
        choice = {"index": 0, "message": message, "finish_reason": "stop", **self.extra}
        usage = {"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49}
        base = {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny-0613", "usage": usage}
        return 200, {**base, "choices": [choice]}


@contextmanager
def serve(protocol: str) -> Iterator[Server]:
    """A server that speaks "ollama" or "openai", on a free port of the loopback interface."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # headers and body in one packet

        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, body: dict) -> None:
            server.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            chat = self.path.endswith(("/chat", "/completions"))
            fault = server.faults.pop(0) if chat and server.faults else Fault()
            status, reply = (server.ollama if protocol == "ollama" else server.openai)(self.path, body)
            lines = reply if isinstance(reply, list) else [reply]  # a list is streamed as NDJSON
            data = b"\n".join(json.dumps(line).encode() for line in lines) if fault.body is None else fault.body
            time.sleep(fault.delay)
            try:
                self.send_response(status if fault.status == 200 else fault.status)
                headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **fault.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data if fault.cut is None else data[: fault.cut])
                self.wfile.flush()
                time.sleep(fault.stall)
                self.close_connection = fault.cut is not None
            except OSError:  # the client has given up
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{httpd.server_port}"
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


ROUND_TEXTS = (
    "It goes up.",
    "head: still",
    "1, 4",
    "4-head: nods",
    "The head nods slowly.",
    "Only here the head nods.",
)


def reply_by_round(messages: list[Message]) -> str:
    """What a model answers that keeps to the formats; it knows the round by the number of questions."""
    number = sum(message["role"] == "user" for message in messages)
    return ROUND_TEXTS[min(number, len(ROUND_TEXTS)) - 1]


def about(index: int, class_name: str, number: int, similar: tuple[int, ...] = ()) -> Topic:
    """What a round of SkeletonAgent is about."""
    return Topic(index, class_name, number, SCRIPT[number].kind, similar)


def good_answer(topic: Topic, layout: Layout) -> str:
    """An answer that fits its format, and differs from class to class."""
    joint = topic.class_index % layout.num_joints
    name = layout.joints[joint]
    return {
        1: f"The body does {topic.class_index + 1} things with one hand.",
        2: "\n".join(f"{part}: still" for part in ("head", "hand", "arm", "hip", "leg", "foot")),
        3: f"{joint + 1}",
        4: f"{joint + 1}-{name}: moves up",
        5: f"The {name} moves up and stays there.",
        6: f"Unlike in the others the {layout.joints[-1]} stays where it is.",
    }[topic.round]


@dataclass
class ScriptedBackend:
    """Answers from a function of topic and messages; a `BackendError` that it returns is raised."""

    answer: Callable[[Topic, list[Message]], str | Answer | BackendError]
    spec: str = "scripted/test"
    options: dict = field(default_factory=dict)
    asked: list[tuple[Topic, list[Message]]] = field(default_factory=list)

    def identity(self) -> dict:
        backend, model = self.spec.split("/")
        return {"backend": backend, "model": model, "options": self.options}

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        self.asked.append((topic, list(messages)))
        answer = self.answer(topic, messages)
        if isinstance(answer, BackendError):
            raise answer
        if isinstance(answer, Answer):
            return answer
        return Answer(answer, tokens_in=sum(len(message["content"]) for message in messages), tokens_out=len(answer))
