"""The ledger: planned before anything runs, never beyond its total, read again as it was written."""

import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tckr.dp import Entry, Ledger, Noise, Plan, code_of, delta_default, epsilon_of_mu, mu
from tckr.errors import UserError

N, HASH = 3000, "4f2a" * 16
DELTA = delta_default(N)


def new(epsilon: float = 10.0) -> Ledger:
    return Ledger(epsilon, DELTA, N, HASH)


def gaussian(name: str = "teacher", **fields) -> dict:
    given = {
        "mechanism": "gaussian",
        "noise_multiplier": 8.0,
        "steps": 16,
        "why": "clipped to 1",
        "code": "m:f",
    }
    return {"name": name, **given, **fields}


def filled() -> Ledger:
    ledger = new()
    ledger.add(**gaussian())
    ledger.add(
        **gaussian("words", mechanism="discrete_gaussian", steps=1, sensitivity=math.sqrt(10))
    )
    ledger.add(
        **gaussian("lora", mechanism="subsampled_gaussian", noise_multiplier=3, sampling_rate=0.1)
    )
    ledger.declare("normalisation constants", "public", "of the miniatures")
    ledger.spend("words", Noise())
    return ledger


def test_entries_add_up_as_squares_of_mu():
    ledger = new()
    ledger.add(**gaussian("first"))
    ledger.add(**gaussian("second", steps=48))
    assert ledger.mu() == pytest.approx(1.0)
    assert ledger.epsilon() == pytest.approx(epsilon_of_mu(1.0, DELTA))
    assert ledger.epsilon(1e-8) > ledger.epsilon()
    assert ledger.epsilon(spent=True) == 0
    ledger.spend("first", Noise())
    assert ledger.mu(spent=True) == pytest.approx(0.5)
    assert ledger.trade_off(spent=True).mu == pytest.approx(0.5)


def test_mu_of_a_mixed_ledger_is_that_of_its_epsilon():
    ledger = filled()
    assert ledger.mu() == pytest.approx(mu(ledger.epsilon(), DELTA))


def test_what_would_exceed_the_total_is_refused_and_not_kept():
    ledger = new(epsilon=1.0)
    ledger.add(**gaussian(noise_multiplier=20))
    before = ledger.to_json()
    with pytest.raises(
        UserError, match=r"'lora' does not fit into epsilon 1 .*teacher take"
    ) as refused:
        ledger.add(**gaussian("lora"))
    assert "\n" not in str(refused.value)
    assert ledger.to_json() == before


def test_no_noise_is_refused():
    with pytest.raises(UserError, match="does not fit"):
        new().add(**gaussian(noise_multiplier=0))


def test_a_mechanism_runs_once():
    ledger = new()
    ledger.add(**gaussian())
    assert ledger["teacher"].spent is None
    entry = ledger.spend("teacher", Noise())
    assert entry.spent is not None
    assert ledger["teacher"] == entry
    with pytest.raises(UserError, match=r"'teacher' was run at .* its budget is spent"):
        ledger.spend("teacher", Noise())
    with pytest.raises(UserError, match="'teacher' already"):
        ledger.add(**gaussian())


def test_what_is_not_planned_cannot_run():
    ledger = new()
    with pytest.raises(UserError, match="no mechanism 'captions'"):
        ledger.spend("captions", Noise())
    assert "captions" not in ledger


def test_an_entry_of_other_images_is_refused():
    with pytest.raises(UserError, match="other private images"):
        new().add(**gaussian(data_hash="beef"))


@pytest.mark.parametrize("delta", [0.0, 1.01 / N, 0.5, math.nan])
def test_delta_above_one_image_in_n(delta: float):
    with pytest.raises(UserError, match="1/N"):
        Ledger(1.0, delta, N, HASH)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.inf, math.nan])
def test_impossible_totals(epsilon: float):
    with pytest.raises(UserError, match="epsilon above 0"):
        new(epsilon)


def test_seeded_noise_is_marked_and_cannot_be_released():
    ledger = filled()
    ledger.check_release()
    ledger.spend("teacher", Noise(seed=0))
    assert not ledger.private
    assert not Ledger.from_json(ledger.to_json()).private
    with pytest.raises(UserError, match="seed"):
        ledger.check_release()
    with pytest.raises(UserError, match="no mechanism that was run"):
        new().check_release()


def test_a_resumed_run_reads_what_was_spent():
    text = filled().to_json()
    ledger = Ledger.from_json(text, data_hash=HASH)
    assert ledger["words"].spent is not None
    assert ledger["teacher"].spent is None
    assert ledger.to_json() == text
    assert [each.what for each in ledger.declarations] == ["normalisation constants"]
    with pytest.raises(UserError, match="was run"):
        ledger.spend("words", Noise())
    # Today's parameters ask for less noise: what stands in the ledger counts.
    with pytest.raises(UserError, match="'teacher' already"):
        ledger.add(**gaussian(noise_multiplier=1000))


def test_the_released_ledger_does_not_hold_the_hash_of_the_images():
    text = filled().to_json(release=True)
    assert HASH[:8] not in text
    content = json.loads(text)
    assert content["epsilon"] == filled().epsilon()
    assert len(content["entries"]) == 3


ENTRIES = st.lists(
    st.builds(
        dict,
        mechanism=st.sampled_from(["gaussian", "discrete_gaussian"]),
        noise_multiplier=st.floats(5, 50),
        steps=st.integers(1, 5),
        sensitivity=st.integers(1, 3).map(math.sqrt),
        why=st.text(min_size=1, max_size=20),
        code=st.text(min_size=1, max_size=20),
        seeded=st.booleans(),
        spent=st.none()
        | st.datetimes(datetime(2020, 1, 1)).map(lambda when: when.replace(tzinfo=UTC)),
    ),
    max_size=2,
)


@settings(deadline=None, max_examples=8)
@given(ENTRIES)
def test_json_round_trip(entries: list[dict]):
    ledger = new(50.0)
    for place, fields in enumerate(entries):
        ledger.add(name=f"entry {place}", **fields)
    again = Ledger.from_json(ledger.to_json(), HASH)
    assert again.entries == ledger.entries
    assert (again.epsilon(), again.private) == (ledger.epsilon(), ledger.private)
    assert again.to_json() == ledger.to_json()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("version",), 2, "version 2"),
        (("delta",), 0.5, "1/N|delta|changed"),
        (("entries", 0, "mechanism"), "laplace", r"entries.0.mechanism = 'laplace'"),
        (("entries", 0, "noise_multiplier"), -8.0, r"noise_multiplier = -8.0"),
        (("entries", 0, "noise_multiplier"), 80.0, "changed after it was written"),
        (("entries", 0, "noise_multiplier"), "loud", "noise_multiplier"),
        (("entries", 0, "steps"), 1, "changed"),
        (("entries", 1, "spent"), None, "changed"),
        (("entries", 1, "name"), "teacher", "one name"),
        (("entries", 2, "data_hash"), "beef", "other private images"),
        (("n",), 10**9, "changed|1/N"),
        (("epsilon",), 0.1, "changed"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_changed_files_are_refused_in_one_line(place: tuple, value, message: str):
    content = json.loads(filled().to_json())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(UserError, match=message) as refused:
        Ledger.from_json(json.dumps(content), source="ledger.json")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"version": 1', '{"version": 1, "checksum": NaN}']
)
def test_what_is_no_ledger_is_refused(text: str):
    with pytest.raises(UserError, match=r"ledger\.json"):
        Ledger.from_json(text, source="ledger.json")


def test_other_data_are_refused():
    with pytest.raises(UserError, match="other private images"):
        Ledger.from_json(filled().to_json(), data_hash="beef")


def test_a_forged_total_is_refused():
    ledger = filled()
    ledger.total_epsilon = 1.0  # as a program would that writes its own checksum
    with pytest.raises(UserError, match="does not fit"):
        Ledger.from_json(ledger.to_json())


def test_code_names_the_function_and_its_file():
    first, second = code_of(code_of), code_of(Ledger.spend)
    assert first.startswith("tckr.dp.ledger:code_of@")
    assert second.startswith("tckr.dp.ledger:Ledger.spend@")
    assert first.split("@")[1] == second.split("@")[1]


def plan(name: str, share: float, **fields) -> Plan:
    given = {"mechanism": "gaussian", "why": "clipped", "code": "m:f"}
    return Plan(name=name, share=share, **{**given, **fields})


def test_a_plan_of_gaussians_uses_the_budget_up_by_shares_of_mu_squared():
    ledger = new()
    words, teacher = ledger.plan(
        [plan("words", 1, steps=4), plan("teacher", 3, steps=80), plan("none", 0)]
    )
    assert [entry.name for entry in ledger] == ["words", "teacher"]
    assert ledger.epsilon() == pytest.approx(10, rel=1e-6)
    assert ledger.epsilon() <= 10 * (1 + 1e-9)
    of_words, of_teacher = words.steps / words.noise_multiplier**2, 80 / teacher.noise_multiplier**2
    assert of_teacher == pytest.approx(3 * of_words)


def test_a_mixed_plan_reaches_its_total_from_below_and_nothing_more_fits():
    ledger = new()
    ledger.add(**gaussian("counts", mechanism="discrete_gaussian", steps=1, noise_multiplier=10))
    ledger.plan(
        [
            plan("words", 0.1, mechanism="discrete_gaussian", sensitivity=math.sqrt(10)),
            plan("lora", 0.5, mechanism="subsampled_gaussian", sampling_rate=0.1, steps=50),
            plan("teacher", 0.4, steps=80),
        ]
    )
    assert 9.97 < ledger.epsilon() <= 10
    assert ledger["counts"].noise_multiplier == 10
    with pytest.raises(UserError, match="does not fit"):
        ledger.add(**gaussian("more", noise_multiplier=20))


def test_a_plan_without_budget_left_is_refused():
    ledger = new()
    ledger.plan([plan("teacher", 1)])
    with pytest.raises(UserError, match="does not fit"):
        ledger.plan([plan("words", 1)])
    with pytest.raises(UserError, match="called 'words'"):
        new().plan([plan("words", 1), plan("words", 1)])
    with pytest.raises(UserError, match="share"):
        new().plan([plan("words", 0)])


def test_what_is_charged_is_not_declared_free():
    with pytest.raises(UserError, match="charged"):
        filled().declare("teacher", "public", "says who")
    with pytest.raises(ValidationError):
        new().declare("captions", "free", "says who")


def test_an_entry_needs_its_reasons():
    with pytest.raises(ValidationError):
        Entry(**gaussian(why=""), data_hash=HASH)
