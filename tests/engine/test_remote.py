"""An endpoint that is slow, silent, wrong, busy or dead: patience, a cap, and no answer asked for twice."""

import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="the extra tckr[openai] is not installed")

from endpoints import KEY, Endpoint, Reply, traffic
from tckr.engine.endpoint import EndpointOptions, Prices, TrafficOptions
from tckr.engine.released import UnreleasedTextError, public
from tckr.engine.remote import Ask, Remote
from tckr.errors import UserError
from tckr.text.sources.remote import read_text


def remote(server: Endpoint, folder: Path, **changed: Any) -> Remote[str]:
    asked = EndpointOptions(base_url=server.base_url, model="tiny")
    quick = TrafficOptions(**traffic(folder, **{"timeout_seconds": 0.5, **changed}))
    return Remote("/chat/completions", asked, quick, read_text, "text.endpoint")


def asks(count: int, start: int = 0) -> list[Ask]:
    return [
        Ask(
            {"messages": [{"role": public("user"), "content": public(f"Caption: a _ bag {n}")}]},
            tokens=20,
        )
        for n in range(start, start + count)
    ]


def said(found: Remote[str], wanted: list[Ask]) -> list[str | None]:
    return list(found.each(wanted, "test"))


def test_answers_come_in_the_order_of_the_requests(server: Endpoint, tmp_path: Path) -> None:
    server.troubles.append(Reply(503, delay=0.1))  # the first is answered last
    texts = said(remote(server, tmp_path, workers=4), asks(12))
    assert [str(text).split()[-1] for text in texts] == [str(n) for n in range(12)]


def test_an_answer_is_asked_for_once_whoever_asks(server: Endpoint, tmp_path: Path) -> None:
    first = said(remote(server, tmp_path), [*asks(3), *asks(3)])
    again = said(remote(server, tmp_path), asks(3))
    assert first == [*again, *again]
    assert len(server.requests) == 3


def test_samples_of_one_request_are_told_apart_by_their_number(
    server: Endpoint, tmp_path: Path
) -> None:
    one = asks(1)[0]
    said(remote(server, tmp_path), [one, one._replace(number=1)])
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"parameters": {"top_p": 0.5}}], ids=["model", "parameters"]
)
def test_another_model_or_parameter_is_another_request(
    server: Endpoint, tmp_path: Path, change: dict[str, Any]
) -> None:
    said(remote(server, tmp_path), asks(1))
    asked = EndpointOptions(**{"base_url": server.base_url, "model": "tiny", **change})
    other = Remote(
        "/chat/completions", asked, TrafficOptions(**traffic(tmp_path)), read_text, "text.endpoint"
    )
    said(other, asks(1))
    assert len(server.requests) == 2


def test_what_is_slower_than_the_timeout_is_asked_again_and_counted_as_paid(
    server: Endpoint, tmp_path: Path
) -> None:
    server.troubles.append(Reply(delay=1.0))
    asking = remote(server, tmp_path)
    assert said(asking, asks(1)) != [None]
    assert len(server.requests) == 2
    assert asking.spent.requests == 2  # the late answer may be charged


def test_an_endpoint_that_stays_silent_ends_in_one_line(server: Endpoint, tmp_path: Path) -> None:
    server.troubles.extend([Reply(delay=0.5)] * 4)
    with pytest.raises(UserError, match=r"does not answer: no answer within 0\.2 s.*kept"):
        said(remote(server, tmp_path, timeout_seconds=0.2), asks(1))


@pytest.mark.parametrize(
    "garbage",
    [
        Reply(body=b"<html>Sign in</html>"),
        Reply(body=b""),
        Reply(body={"choices": []}),
        Reply(body={"choices": [{"message": {"content": 5}}]}),
        Reply(body=[1, 2]),
        Reply(hang_up=True),
        Reply(500, b"oops"),
    ],
    ids=["html", "empty", "no choices", "number", "list", "hangs up", "error"],
)
def test_garbage_is_asked_again_and_never_kept(
    server: Endpoint, tmp_path: Path, garbage: Reply
) -> None:
    server.troubles.append(garbage)
    texts = said(remote(server, tmp_path), asks(1))
    assert "bag 0" in str(texts[0])
    assert len(server.requests) == 2
    assert said(remote(server, tmp_path), asks(1)) == texts
    assert len(server.requests) == 2


def test_nothing_but_garbage_names_the_endpoint(server: Endpoint, tmp_path: Path) -> None:
    server.troubles.extend([Reply(body=b"<html>")] * 4)
    with pytest.raises(
        UserError, match=r"4 times what cannot be used: no JSON.*text\.endpoint\.base_url"
    ):
        said(remote(server, tmp_path), asks(1))


def test_the_wait_that_a_busy_endpoint_asks_for_is_kept_by_all_workers(
    server: Endpoint, tmp_path: Path
) -> None:
    server.troubles.append(Reply(429, {"error": {"message": "slow down"}}, (("Retry-After", "1"),)))
    asking = remote(server, tmp_path, workers=1)
    said(asking, asks(3))
    assert server.times[1] - server.times[0] >= 1
    assert asking.spent.requests == 3  # the refusal is free


def test_a_wait_of_hours_ends_the_run_in_one_line(server: Endpoint, tmp_path: Path) -> None:
    server.troubles.append(Reply(429, {}, (("Retry-After", "7200"),)))
    with pytest.raises(UserError, match="asks to wait 7,200 s"):
        said(remote(server, tmp_path), asks(1))


def test_an_account_without_credit_is_not_asked_again(server: Endpoint, tmp_path: Path) -> None:
    error = {"error": {"message": "no money", "code": "insufficient_quota"}}
    server.troubles.append(Reply(429, error))
    with pytest.raises(UserError, match="no credit left"):
        said(remote(server, tmp_path), asks(1))
    assert len(server.requests) == 1


def test_a_refused_key_is_never_shown(server: Endpoint, tmp_path: Path) -> None:
    server.troubles.append(Reply(401, {"error": {"message": f"wrong key {KEY}"}}))
    with pytest.raises(UserError, match=r"conf/local/credentials\.yml") as refused:
        said(remote(server, tmp_path), asks(1))
    assert KEY not in str(refused.value)
    assert server.keys == {f"Bearer {KEY}"}


def test_a_refused_entry_says_how_to_leave_it_out(server: Endpoint, tmp_path: Path) -> None:
    server.troubles.append(Reply(400, {"error": {"message": "max_tokens is not supported"}}))
    with pytest.raises(UserError, match=r"max_tokens is not supported.*text\.endpoint\.parameters"):
        said(remote(server, tmp_path), asks(1))


def test_a_declined_request_is_none_and_not_asked_again(server: Endpoint, tmp_path: Path) -> None:
    error = {"error": {"message": "not this", "code": "content_policy_violation"}}
    server.troubles.append(Reply(400, error))
    assert said(remote(server, tmp_path), asks(1)) == [None]
    assert said(remote(server, tmp_path), asks(1)) == [None]
    assert len(server.requests) == 1


def test_a_server_that_dies_halfway_loses_nothing(server: Endpoint, tmp_path: Path) -> None:
    coming = remote(server, tmp_path).each(asks(20), "test")
    first = [next(coming) for _ in range(5)]
    server.stop()
    with pytest.raises(UserError, match="does not answer: no connection"):
        list(coming)
    before = dict(server.answered)
    assert 5 <= len(before) < 20
    server.start()
    texts = said(remote(server, tmp_path), asks(20))
    assert texts[:5] == first
    assert len(server.answered) == 20
    assert set(server.answered.values()) == {1}


def test_an_interrupted_run_keeps_what_was_on_its_way(server: Endpoint, tmp_path: Path) -> None:
    coming = remote(server, tmp_path).each(asks(20), "test")
    next(coming)
    coming.close()  # as an exception in the consumer would
    said(remote(server, tmp_path), asks(20))
    assert set(server.answered.values()) == {1}


def test_a_cap_on_requests_holds_over_runs_and_says_what_was_spent(
    server: Endpoint, tmp_path: Path
) -> None:
    said(remote(server, tmp_path, max_requests=5), asks(4))
    with pytest.raises(
        UserError, match=r"cap on requests \(5\).*5 requests were paid.*raise max_requests"
    ):
        said(remote(server, tmp_path, max_requests=5), asks(8))
    assert len(server.requests) == 5
    said(remote(server, tmp_path, max_requests=8), asks(8))
    assert len(server.requests) == 8
    assert set(server.answered.values()) == {1}


def test_a_cap_on_spending_is_never_exceeded(server: Endpoint, tmp_path: Path) -> None:
    prices = Prices(input_tokens=10, output_tokens=100)
    cost = (300 * 10 + 20 * 100) / 1e6  # as the server's usage has it
    capped = remote(server, tmp_path, max_spend=3.5 * cost, prices=prices, workers=1)
    with pytest.raises(UserError, match=r"cap on spending \(0\.0175\).*in all"):
        said(capped, asks(10))
    assert capped.spent.cost == pytest.approx(len(server.requests) * cost)
    assert capped.spent.cost <= 3.5 * cost


def test_without_an_account_of_tokens_the_most_is_counted(server: Endpoint, tmp_path: Path) -> None:
    server.usage = None
    asking = remote(server, tmp_path, prices=Prices(output_tokens=1e6))
    said(asking, asks(1))
    assert asking.spent.cost == pytest.approx(20)


def test_a_plain_text_is_never_sent(server: Endpoint, tmp_path: Path) -> None:
    plain = Ask({"messages": [{"role": public("user"), "content": "what a private image shows"}]})
    with pytest.raises(UnreleasedTextError) as refused:
        said(remote(server, tmp_path), [plain])
    assert not server.requests
    assert "private image" not in str(refused.value)


def test_answers_are_their_owners_alone_and_hold_no_key(server: Endpoint, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        said(remote(server, tmp_path), asks(2))
    finally:
        os.umask(before)
    files = list((tmp_path / "cache").rglob("*.json"))
    assert len(files) == 3  # and what was spent
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert KEY not in file.read_text()
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_a_damaged_answer_is_asked_for_again(server: Endpoint, tmp_path: Path) -> None:
    said(remote(server, tmp_path), asks(1))
    (file,) = (tmp_path / "cache").glob("??/*.json")
    file.write_bytes(b'{"choices": [')
    said(remote(server, tmp_path), asks(1))
    assert len(server.requests) == 2
    assert json.loads(file.read_bytes())


def test_a_damaged_account_of_what_was_spent_stops_the_run(
    server: Endpoint, tmp_path: Path
) -> None:
    said(remote(server, tmp_path), asks(1))
    (tmp_path / "cache/spent.json").write_text("{")
    with pytest.raises(UserError, match=r"spent\.json is not readable"):
        said(remote(server, tmp_path), asks(2))


def test_two_that_share_a_folder_share_its_cap(server: Endpoint, tmp_path: Path) -> None:
    def work(start: int) -> None:
        try:
            said(remote(server, tmp_path, max_requests=10), asks(10, start))
        except UserError:
            stopped.append(start)

    stopped: list[int] = []
    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stopped
    assert len(server.requests) == 10


def test_no_key_is_needed_where_the_server_asks_for_none(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEXT_SOURCE_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-place")  # never sent to whoever is asked
    said(remote(server, tmp_path), asks(1))
    assert server.keys == {"Bearer none"}


def test_waiting_ends_when_the_run_does(server: Endpoint, tmp_path: Path) -> None:
    server.troubles.extend([Reply(503)] * 50)
    asking = remote(server, tmp_path, retries=50, backoff_seconds=30.0)
    begun = time.monotonic()
    coming = asking.each([*asks(1), Ask({"plain": "text"})], "test")
    with pytest.raises(UnreleasedTextError):
        next(coming)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "http://name:password@host/v1", "https://host/v1?key=1", "host/v1"]
)
def test_an_address_that_holds_a_key_or_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="it must"):
        EndpointOptions(base_url=url, model="m")


def test_a_cap_on_spending_needs_prices() -> None:
    with pytest.raises(ValueError, match="max_spend needs prices"):
        TrafficOptions(max_spend=1.0)
