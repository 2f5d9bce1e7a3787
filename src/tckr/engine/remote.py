"""Ask an OpenAI-compatible endpoint: side by side, with patience, under a cap, and never twice for the same answer.

Every answer is a file named by the hash of what was asked, so that a killed run goes on where it was. What is sent must have
been released (`tckr.engine.released`).
"""

import hashlib
import json
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from tckr.engine.credentials import api_key, where
from tckr.engine.endpoint import EndpointOptions, TrafficOptions
from tckr.engine.meter import Meter, Spent, write_private
from tckr.engine.progress import track
from tckr.engine.released import check_released
from tckr.errors import UserError

Answer = TypeVar("Answer")
Read = Callable[[Any], Answer]

MILLION = 1_000_000
LONGEST_BACKOFF = 60.0  # seconds
PASSING = {
    408,
    409,
    425,
    429,
}  # statuses that may pass, beside those of a server's own failure (5xx)
# What an endpoint says (error.code) where waiting will not help, and where it will not answer this one request.
SPENT_UP = {"insufficient_quota", "billing_hard_limit_reached"}
DECLINED = {"content_policy_violation", "moderation_blocked", "content_filter"}


class BadAnswerError(Exception):
    """An answer that is not what was asked for; the message says why in a few words."""


class DeclinedError(Exception):
    """The endpoint will not answer this request, whenever it is asked."""


class Ask(NamedTuple):
    """One request.

    Attributes:
        body: what is sent, beside the model and its parameters; every text in it is `Released`.
        number: tells repeated samples of the same body apart.
        tokens, images: the most that the answer can hold, for the cap on spending.
    """

    body: Mapping[str, Any]
    number: int | str = 0
    tokens: int = 0
    images: int = 0


class _PassingError(Exception):
    """A failure after which the same request may succeed."""

    def __init__(self, said: str, wait: float | None = None, charged: bool = False) -> None:
        super().__init__(said)
        self.wait = wait  # seconds, where the endpoint says so
        self.charged = charged  # perhaps: the endpoint may have answered after all


class Remote(Generic[Answer]):
    """One interface of an endpoint, such as /chat/completions.

    Attributes:
        key: name of the parameter group, for messages.
    """

    def __init__(
        self,
        path: str,
        endpoint: EndpointOptions,
        traffic: TrafficOptions,
        read: Read[Answer],
        key: str,
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            path: below the endpoint's base_url.
            endpoint: who is asked.
            traffic: how, and what may be spent.
            read: takes the answer's JSON; raises `BadAnswerError` for one that cannot be used.
            key: name of the parameter group, for messages.

        Raises:
            UserError: the extra is not installed, or the endpoint is not named.
        """
        if not endpoint.base_url or not endpoint.model:
            raise UserError(
                f"{key} names no endpoint.",
                f"set {key}.base_url and {key}.model of a server to ask.",
            )
        self._path, self._endpoint, self._traffic = path, endpoint, traffic
        self._read, self.key = read, key
        self._folder = Path(traffic.cache)
        self._meter = Meter(self._folder, traffic.max_requests, traffic.max_spend)
        self._client, self._secret = _client(endpoint, traffic)
        self._not_before = 0.0  # time.monotonic(), set where the endpoint asks to wait

    @property
    def spent(self) -> Spent:
        """What was paid for so far, by all that share the folder of answers."""
        return self._meter.spent

    def each(
        self, asks: Iterable[Ask], what: str, total: int | None = None
    ) -> Iterator[Answer | None]:
        """Yield the answer to each request, in order; None where the endpoint declined it.

        Args:
            asks: requests; equal ones are asked once.
            what: name of the progress bar.
            total: number of requests, for the bar.

        Raises:
            UserError: a cap is reached, or the endpoint cannot be used; what was answered until then is kept.
            UnreleasedTextError: a request holds a text that was never released.
        """
        coming = iter(asks)
        stopped = threading.Event()
        pool = ThreadPoolExecutor(self._traffic.workers, thread_name_prefix="tckr-remote")
        waiting: deque[tuple[str, Future[Answer | None]]] = deque()
        running: dict[str, Future[Answer | None]] = {}

        def start(several: int) -> None:
            for ask in islice(coming, several):
                check_released(ask.body)
                name = self._name(ask)
                if name not in running:
                    running[name] = pool.submit(self._answer, ask, name, stopped)
                waiting.append((name, running[name]))

        def answers() -> Iterator[Answer | None]:
            start(2 * self._traffic.workers)
            while waiting:
                name, future = waiting.popleft()
                result = future.result()
                running.pop(name, None)  # from now on it is on the disk
                start(1)
                yield result

        try:
            yield from track(answers(), what, total)
        finally:
            # What is on its way is waited for and kept: it was paid for.
            stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _name(self, ask: Ask) -> str:
        """Return the hash of everything that tells one answer from another; no key is part of it."""
        asked = [self._endpoint.base_url, self._path, self._endpoint.body(**ask.body), ask.number]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def _answer(self, ask: Ask, name: str, stopped: threading.Event) -> Answer | None:
        file = self._folder / name[:2] / f"{name}.json"
        kept = _load(file)
        if kept is not None:
            try:
                return None if kept == {"declined": True} else self._read(kept)
            except BadAnswerError:
                pass  # kept by other code
        try:
            content, answer = self._ask_patiently(ask, stopped)
        except DeclinedError:
            write_private(file, b'{"declined": true}')
            return None
        write_private(file, content)
        return answer

    def _ask_patiently(self, ask: Ask, stopped: threading.Event) -> tuple[bytes, Answer]:
        """Ask until there is a good answer: exponential backoff with full jitter, or as long as the endpoint says."""
        from tenacity import (
            RetryCallState,
            Retrying,
            retry_if_exception_type,
            sleep_using_event,
            stop_after_attempt,
            stop_when_event_set,
            wait_random_exponential,
        )

        spread = wait_random_exponential(self._traffic.backoff_seconds, LONGEST_BACKOFF)

        def wait(state: RetryCallState) -> float:
            failure = state.outcome.exception() if state.outcome else None
            said = getattr(failure, "wait", None)
            if said is None:
                return float(spread(state))
            self._not_before = max(self._not_before, time.monotonic() + said)  # for all workers
            return float(said)

        patient = Retrying(
            retry=retry_if_exception_type((_PassingError, BadAnswerError)),
            stop=stop_after_attempt(self._traffic.retries + 1) | stop_when_event_set(stopped),
            wait=wait,
            sleep=sleep_using_event(stopped),
            reraise=True,
        )
        try:
            found: tuple[bytes, Answer] = patient(self._ask_once, ask, stopped)
            return found
        except BadAnswerError as error:
            raise UserError(
                f"{self._where} answers {self._traffic.retries + 1} times what cannot be used: {error}.",
                f"check that {self.key}.base_url is an OpenAI-compatible interface and {self.key}.model serves it.",
            ) from None
        except _PassingError as error:
            raise UserError(
                f"{self._where} does not answer: {error}.",
                "see that it is there, then give the same command again; what was answered is kept and not asked again.",
            ) from None

    def _ask_once(self, ask: Ask, stopped: threading.Event) -> tuple[bytes, Answer]:
        pause = self._not_before - time.monotonic()
        if pause > 0:
            stopped.wait(pause)
        body = self._endpoint.body(**ask.body)
        held = self._meter.reserve(self._most(body, ask))
        try:
            content = self._send(body)
        except (_PassingError, DeclinedError, UserError) as failure:
            if not getattr(failure, "charged", False):
                self._meter.refund(held)
            raise
        try:
            found = json.loads(content)
        except ValueError:
            raise BadAnswerError("no JSON") from None
        self._meter.settle(held, self._cost(found, ask, held))
        return content, self._read(found)

    def _send(self, body: dict[str, Any]) -> bytes:
        import openai
        from httpx2 import Response

        try:
            response = self._client.post(self._path, cast_to=Response, body=body)
            return bytes(response.content)
        except openai.APITimeoutError:
            late = f"no answer within {self._traffic.timeout_seconds:g} s"
            raise _PassingError(late, charged=True) from None
        except openai.APIConnectionError as error:
            raise _PassingError(f"no connection ({error.__cause__ or error})") from None
        except openai.APIStatusError as error:
            raise self._status(error) from None

    def _status(self, error: Any) -> Exception:
        """Say what a status other than success means."""
        status, code = error.status_code, getattr(error, "code", None)
        said = self._redacted(str(error.message))
        if code in DECLINED:
            return DeclinedError(said)
        if code in SPENT_UP:
            return UserError(
                f"{self._where} says that the account has no credit left ({code}).",
                "pay for more, then give the same command again; what was answered is kept.",
            )
        if status in PASSING or status >= 500:
            wait = retry_after(error.response.headers)
            if wait is not None and wait > self._traffic.longest_wait_seconds:
                return UserError(
                    f"{self._where} asks to wait {wait:,.0f} s (status {status}).",
                    "give the same command again after that, what was answered is kept; or raise longest_wait_seconds.",
                )
            return _PassingError(f"status {status}, {said}", wait)
        if status in (401, 403):
            return UserError(
                f"{self._where} refuses the key '{self._traffic.credentials}' (status {status}): {said}",
                where(self._traffic.credentials),
            )
        remedy = (
            f"check {self.key}.base_url and {self.key}.model."
            if status in (404, 405)
            else f"change what it refuses, in {self.key}.parameters where it is an entry of the request (null leaves it out)."
        )
        return UserError(f"{self._where} refuses a request (status {status}): {said}", remedy)

    @property
    def _where(self) -> str:
        return f"{self._endpoint.base_url}{self._path}"

    def _redacted(self, text: str) -> str:
        secret = self._secret
        return " ".join((text.replace(secret, "***") if secret else text).split())[:300]

    def _most(self, body: dict[str, Any], ask: Ask) -> float:
        """Return the most that a request can cost: a token is a byte at least."""
        prices = self._traffic.prices
        sent = len(json.dumps(body, ensure_ascii=False).encode())
        tokens = sent * prices.input_tokens + ask.tokens * prices.output_tokens
        return tokens / MILLION + ask.images * prices.images

    def _cost(self, found: Any, ask: Ask, most: float) -> float:
        """Return what an answer cost by its own account of tokens; where it gives none, the most."""
        prices = self._traffic.prices
        usage = found.get("usage") if isinstance(found, dict) else None
        usage = usage if isinstance(usage, dict) else {}
        sent = usage.get("prompt_tokens", usage.get("input_tokens"))
        answered = usage.get("completion_tokens", usage.get("output_tokens"))
        if not isinstance(sent, int) or not isinstance(answered, int):
            return most
        tokens = max(0, sent) * prices.input_tokens + max(0, answered) * prices.output_tokens
        return tokens / MILLION + ask.images * prices.images


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds an endpoint asks to be left alone; None where it does not say.

    >>> retry_after({"retry-after": "7"}), retry_after({"retry-after-ms": "250"}), retry_after({})
    (7.0, 0.25, None)
    >>> retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})
    0.0
    """
    from email.utils import parsedate_to_datetime

    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        said = headers.get(name)
        if said is None:
            continue
        try:
            seconds = float(said) / unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(said).timestamp() - time.time()
            except ValueError:
                continue
        if not math.isnan(seconds):
            return max(0.0, seconds)
    return None


def _client(endpoint: EndpointOptions, traffic: TrafficOptions) -> tuple[Any, str]:
    """Return the client, and the key that must not be shown."""
    try:
        import openai
        import tenacity  # noqa: F401
    except ImportError:
        raise UserError(
            "An endpoint is to be asked, but the package openai is not installed.",
            "pip install 'tckr[openai]'.",
        ) from None
    for noisy in ("httpx2", "httpcore2", "openai"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    found = api_key(traffic.credentials)
    secret = found.get_secret_value() if found is not None else ""
    # Its own retries are off: they would be neither counted nor waited for together.
    client = openai.OpenAI(
        base_url=endpoint.base_url,
        api_key=secret or "none",
        timeout=traffic.timeout_seconds,
        max_retries=0,
    )
    return client, secret


def _load(file: Path) -> Any:
    """Return the JSON of a file; None where there is none, or none that is whole."""
    try:
        return json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
