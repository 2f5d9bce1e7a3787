"""Keys of endpoints: read from Kedro's credentials, given to the endpoint, and written down nowhere."""

import multiprocessing
import sqlite3
import stat
from pathlib import Path

import pytest

from conftest import start_kedro
from endpoints import Endpoint
from tckr.engine.credentials import api_key, hold
from tckr.errors import UserError
from tiny import make_project

SECRET = "sk-0123456789-of-the-credentials"


@pytest.fixture
def own_project(tmp_path: Path, private_images: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return make_project(folder, private_images)


@pytest.mark.slow
def test_a_run_gives_the_key_to_the_endpoint_and_to_nothing_else(
    server: Endpoint, own_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEXT_SOURCE_API_KEY")
    credentials = own_project / "conf/local/credentials.yml"
    credentials.write_text("text_source: {api_key: '${oc.env:A_KEY}'}\n")
    parameters = f"spti.text.kind=openai,spti.text.endpoint.base_url={server.base_url},spti.text.endpoint.model=m"
    process = start_kedro(
        own_project,
        *("run", "--pipeline=spti", "--env=test", "--to-outputs=spti.population"),
        f"--params={parameters}",
        A_KEY=SECRET,
    )
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert server.keys == {f"Bearer {SECRET}"}
    assert SECRET not in output + errors
    files = [file for file in own_project.rglob("*") if file.is_file()]
    (spent,) = (file for file in files if file.name == "spent.json")
    for file in files:
        assert SECRET.encode() not in file.read_bytes(), file
    assert spent.parent.match("02_intermediate/remote")
    answers = list(spent.parent.rglob("??/*.json"))
    assert len(answers) == len(server.requests) > 10
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in answers)
    with sqlite3.connect(own_project / "mlflow.db") as database:
        names = {key for (key,) in database.execute("select key from params")}
    assert "spti.text.endpoint.model" in names


def test_credentials_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_ONE_API_KEY", "of the environment")
    hold({"server-one": {"api_key": None}, "database": {"con": "other"}, "plain": "text"})
    found = api_key("server-one")
    assert found is not None
    assert found.get_secret_value() == "of the environment"
    hold({"server-one": {"api_key": "of the file"}})
    found = api_key("server-one")
    assert found is not None
    assert found.get_secret_value() == "of the file"
    assert "file" not in repr(found) + str(found)
    assert api_key("database") is None


def _key_of_a_worker(name: str) -> str:
    found = api_key(name)
    return found.get_secret_value() if found else ""


def test_worker_processes_find_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_API_KEY", "")
    hold({"server": {"api_key": "a key"}})
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_key_of_a_worker, ("server",)) == "a key"


def test_a_key_that_no_header_can_carry_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_API_KEY", "a key\nwith a line break")
    with pytest.raises(UserError, match="other than printable ASCII") as refused:
        api_key("server")
    assert "line break" not in str(refused.value)
