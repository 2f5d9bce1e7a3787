"""Prompts by a model behind an endpoint: what is asked, what is made of the answers, what a broken run leaves."""

from pathlib import Path
from typing import Any

import pytest

from endpoints import Endpoint, Reply, traffic
from tckr.engine.released import UnreleasedTextError, release
from tckr.errors import UserError
from tckr.text.sources.base import TextSource
from tckr.text.sources.options import TextSourceOptions
from tckr.text.sources.registry import text_source

PROMPTS = [
    f"Bag: a small red bag with {number} handles, on plain white ground" for number in range(12)
]
NAMES = ["Bag"] * len(PROMPTS)


def source(server: Endpoint, folder: Path, **changed: object) -> TextSource:
    settings = {
        "kind": "openai",
        "endpoint": {"base_url": server.base_url, "model": "writer"},
        "traffic": traffic(folder),
        "temperature": 1.2,
        **changed,
    }
    return text_source(TextSourceOptions.model_validate(settings))


def test_variations_fill_blanks_in_and_repeat_with_their_seed(
    server: Endpoint, tmp_path: Path
) -> None:
    prompts = release(PROMPTS, "public")
    writer = source(server, tmp_path)
    varied = writer.vary(prompts, NAMES, seed=0)
    assert all(one.startswith("Bag: ") and "_" not in one for one in varied)
    assert all(one != prompt for one, prompt in zip(varied, prompts, strict=True))
    assert writer.vary(prompts, NAMES, seed=0) == varied
    assert len(server.requests) == 12
    assert writer.vary(prompts, NAMES, seed=1) != varied
    body = server.requests[0]
    assert set(body) == {"model", "messages", "temperature", "max_tokens", "seed"}
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("writer", 1.2, 100)
    assert [one["role"] for one in body["messages"]] == ["user", "assistant"] * 2 + ["user"]


def test_parameters_stand_in_place_of_the_usual_ones(server: Endpoint, tmp_path: Path) -> None:
    changed = {"max_tokens": None, "max_completion_tokens": 400, "temperature": 1}
    asked = {"base_url": server.base_url, "model": "writer", "parameters": changed, "seeded": False}
    source(server, tmp_path, endpoint=asked).random("Bag", 1, seed=0)
    assert {**server.requests[0], "messages": []} == {
        "model": "writer", "messages": [], "max_completion_tokens": 400, "temperature": 1,
    }  # fmt: skip


def test_random_prompts_are_different_and_of_their_class(server: Endpoint, tmp_path: Path) -> None:
    prompts = source(server, tmp_path).random("Bag", 20, seed=0)
    assert all(one.startswith("Bag: a ") for one in prompts)
    assert len(set(prompts)) > 5
    assert len(server.requests) == 20


def test_useless_texts_are_asked_for_again_and_then_the_prompt_stays(
    server: Endpoint, tmp_path: Path
) -> None:
    good = server.write

    def write(body: dict[str, Any]) -> str:
        hopeless = "!" in body["messages"][-1]["content"]
        return "I'm sorry, I can't." if hopeless or len(server.requests) == 1 else good(body)

    server.write = write
    prompts = release([*PROMPTS[:11], "Bag: a bag that nobody describes!"], "public")
    varied = source(server, tmp_path).vary(prompts, NAMES, seed=0)
    kept = [one for one, prompt in zip(varied, prompts, strict=True) if one == prompt]
    assert kept == [prompts[-1]]
    assert len(server.requests) == 12 + 1 + 2  # the first once more, the hopeless one twice


def test_declined_prompts_stay(server: Endpoint, tmp_path: Path) -> None:
    error = {"error": {"message": "not this", "code": "content_filter"}}
    server.troubles.extend([Reply(400, error)] * 3)
    prompts = release(PROMPTS[:4], "public")
    varied = source(server, tmp_path).vary(prompts, NAMES[:4], seed=0)
    assert all("_" not in one for one in varied)
    assert len(server.requests) == 7


def test_a_private_caption_is_never_sent(server: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(UnreleasedTextError):
        source(server, tmp_path).vary(["Bag: what one private image shows"], ["Bag"], seed=0)
    assert not server.requests


def test_a_run_that_breaks_halfway_goes_on_where_it_was(server: Endpoint, tmp_path: Path) -> None:
    prompts = release(PROMPTS, "public")
    whole = source(server, tmp_path / "other").vary(prompts, NAMES, seed=0)
    server.requests.clear()
    server.answered.clear()
    server.life = 5
    with pytest.raises(UserError, match="does not answer"):
        source(server, tmp_path).vary(prompts, NAMES, seed=0)
    server.life = None
    assert source(server, tmp_path).vary(prompts, NAMES, seed=0) == whole
    assert len(server.answered) == 12
    assert set(server.answered.values()) == {1}


def test_the_cap_ends_in_one_line_and_keeps_what_was_paid(server: Endpoint, tmp_path: Path) -> None:
    prompts = release(PROMPTS, "public")
    capped = traffic(tmp_path, max_requests=7)
    with pytest.raises(
        UserError, match=r"cap on requests \(7\) is reached: 7 requests were paid for"
    ):
        source(server, tmp_path, traffic=capped).vary(prompts, NAMES, seed=0)
    source(server, tmp_path).vary(prompts, NAMES, seed=0)
    assert len(server.requests) == 12
