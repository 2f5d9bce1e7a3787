"""An OpenAI-compatible server for tests, on the loopback, in a thread: real HTTP, and everything that goes wrong on it."""

import base64
import io
import json
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

KEY = "sk-a-key-that-nobody-may-see"
CHAT, IMAGES = "/v1/chat/completions", "/v1/images/generations"


class Reply(NamedTuple):
    """What the server does with one request, in place of a good answer."""

    status: int = 200
    body: Any = b""  # bytes, or something to send as JSON
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    hang_up: bool = False  # close the connection without a word


class Endpoint:
    """A server that answers well unless `troubles` say otherwise, and remembers all it was sent.

    Attributes:
        troubles: replies to the next requests, before it answers well again.
        requests: bodies of all requests, as they came.
        answered: how often each body got a good answer.
        written: what the language model answered.
        life: requests after which it hangs up on everybody, until it is raised again.
        keys: of the Authorization headers.
    """

    def __init__(self) -> None:
        self.troubles: deque[Reply] = deque()
        self.requests: list[dict[str, Any]] = []
        self.answered: Counter[str] = Counter()
        self.life: int | None = None
        self.written: list[str] = []
        self.keys: set[str] = set()
        self.times: list[float] = []
        self.write: Callable[[dict[str, Any]], str] = filled_in
        self.usage: dict[str, int] | None = {"prompt_tokens": 300, "completion_tokens": 20}
        self.port = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def texts(self) -> str:
        """Everything that was ever sent, as one text."""
        return json.dumps(self.requests, ensure_ascii=False)

    def start(self) -> None:
        """Listen, on the same port as before."""
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                endpoint._handle(self)

            def log_message(self, *args: Any) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Die: nobody listens any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _handle(self, handler: Any) -> None:
        raw = handler.rfile.read(int(handler.headers["Content-Length"]))
        body = json.loads(raw)
        with self._lock:
            if self.life is not None and len(self.requests) >= self.life:
                handler.close_connection = True
                return
            self.requests.append(body)
            self.times.append(time.monotonic())
            self.keys.add(handler.headers.get("Authorization", ""))
            trouble = self.troubles.popleft() if self.troubles else None
        if self._server is None:  # dead, though this connection is open
            handler.close_connection = True
            return
        if trouble is None:
            content = self.image(body) if handler.path == IMAGES else self.completion(body)
            self._send(handler, Reply(body=content))
            with self._lock:
                self.answered[json.dumps(body, sort_keys=True)] += 1
            return
        time.sleep(trouble.delay)
        if trouble.hang_up:
            handler.close_connection = True
            return
        self._send(handler, trouble)

    def _send(self, handler: Any, reply: Reply) -> None:
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        try:
            handler.send_response(reply.status)
            for name, value in (*reply.headers, ("Content-Length", str(len(content)))):
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)
        except OSError:
            handler.close_connection = True

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        text = self.write(body)
        self.written.append(text)
        message = {"role": "assistant", "content": text}
        answer: dict[str, Any] = {"choices": [{"index": 0, "message": message}]}
        return {**answer, "usage": self.usage} if self.usage else answer

    def image(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"data": [{"b64_json": encoded(picture(body["prompt"]))}]}


def filled_in(body: dict[str, Any]) -> str:
    """Fill each blank of the last message with a word of its seed, as a language model would."""
    draw = np.random.default_rng(body.get("seed", 0))
    words = ("red", "blue", "round", "tall", "wide", "striped", "plain", "dark")
    said = body["messages"][-1]["content"]
    if "Caption: " not in said:
        return f"a {words[draw.integers(8)]} {words[draw.integers(8)]} shape on plain ground"
    caption = said.rpartition("Caption: ")[2]
    return re.sub("_", lambda _: words[draw.integers(len(words))], caption)


def picture(prompt: str, size: tuple[int, int] = (48, 64)) -> Image.Image:
    """Draw something that the prompt decides: one grey level and one bar."""
    draw = np.random.default_rng(list(prompt.encode()))
    pixels = np.full((*size, 3), draw.integers(256, size=3), np.uint8)
    pixels[:, draw.integers(size[1]) :] = draw.integers(256, size=3)
    return Image.fromarray(pixels)


def encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def traffic(folder: Path, **changed: Any) -> dict[str, Any]:
    """Parameters of traffic with a server that is near and may be troubled."""
    quick = {"workers": 2, "timeout_seconds": 2.0, "retries": 3, "backoff_seconds": 0.01}
    return {"cache": str(folder / "cache"), **quick, **changed}


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Run a server for the length of a block."""
    server = Endpoint()
    try:
        yield server
    finally:
        server.stop()
