"""A server of one process: while it loads, at its limits, when its alias moves, and when it stops."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from sensai.ensemble import Ensemble
from sensai.errors import InputError
from sensai.registry.bundle_reader import Run
from sensai.registry.pyfunc_model import Bundle
from sensai.serving import alias
from sensai.serving.access import Token
from sensai.serving.http_application import Limits
from sensai.serving.local_members import LocalVersion
from sensai.serving.protocol import Content
from sensai.tracking import tags
from tests.conftest import Entry, command
from tests.helpers.ensembles import ensemble_of, images, probabilities, register
from tests.helpers.pipeline import Place
from tests.helpers.server import free_port
from tests.serving.conftest import ENSEMBLE, OPTIONS, SECONDS, URI, local_server, waited_for
from tests.serving.test_contract import npy

pytestmark = pytest.mark.processes

# Other members.
OTHER = ensemble_of([(1,), (0, 2), (3,)])
ARRAY = {"Content-Type": "application/octet-stream"}
SECRET = "0123456789abcdef-secret"


def post(url: str, batch: np.ndarray, **headers: str) -> requests.Response:
    return requests.post(f"{url}/invocations", npy(batch), headers=ARRAY | headers, timeout=SECONDS)


def get(url: str, path: str, **headers: str) -> requests.Response:
    return requests.get(f"{url}/{path}", headers=headers, timeout=SECONDS)


def check_answer(answer: requests.Response, ensemble: Ensemble, batch: np.ndarray) -> None:
    assert answer.status_code == 200, answer.text
    given = [list(each.values()) for each in answer.json()["predictions"]]
    np.testing.assert_allclose(given, probabilities(ensemble, batch), atol=1e-5)


@contextmanager
def waiting(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Make the calls of a method wait; yield an event that tells that one waits, and one that lets them go."""
    waits, go = threading.Event(), threading.Event()
    method = getattr(owner, name)

    def wait(*arguments: object) -> object:
        waits.set()
        assert go.wait(SECONDS)
        return method(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, wait)
        try:
            yield waits, go
        finally:
            go.set()


def test_probes_are_answered_at_once_while_members_load(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setattr("tests.serving.conftest.free_port", lambda: port)
    ended = threading.Event()

    def serve() -> None:
        with local_server(place):
            ended.wait(SECONDS)

    with waiting(monkeypatch, Bundle, "open_member") as (loads, go), ThreadPoolExecutor(1) as pool:
        serving = pool.submit(serve)
        try:
            assert loads.wait(SECONDS)
            start = time.perf_counter()
            assert get(url, "health/live").status_code == 200
            for path in ("health/ready", "health", "ping"):
                assert get(url, path).status_code == 503
            answer = post(url, images(1))
            assert time.perf_counter() - start < 5
            assert (answer.status_code, answer.json()["message"]) == (503, "the members are loading")
            assert "sensai_ready 0.0" in get(url, "metrics").text
            go.set()
            waited_for(lambda: get(url, "health/ready").status_code == 200)
            check_answer(post(url, images(2)), ENSEMBLE, images(2))
        finally:
            ended.set()
        serving.result()


def test_others_are_answered_while_a_body_is_decoded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        local_server(place) as (url, _),
        waiting(monkeypatch, Content, "images") as (decodes, go),
        ThreadPoolExecutor(1) as pool,
    ):
        asking = pool.submit(post, url, images(2))
        assert decodes.wait(SECONDS)
        assert get(url, "health/ready").status_code == 200
        go.set()
        check_answer(asking.result(), ENSEMBLE, images(2))


def test_the_member_that_takes_longest_begins_first(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Bundle.open_member
    seconds = [0.0, 0.02, 0.005]

    def slow(bundle: Bundle, number: int, threads: int = 1) -> Run:
        run = opened(bundle, number, threads)

        def wait(batch: np.ndarray) -> np.ndarray:
            time.sleep(seconds[number])
            return run(batch)

        return wait

    monkeypatch.setattr(Bundle, "open_member", slow)
    with local_server(place) as (url, server):
        flops = [member["flops"] for member in server.version.bundle.manifest["members"]]
        assert server.version.order == [1, 2, 0] != sorted(range(3), key=lambda number: -flops[number])
        check_answer(post(url, images(2)), ENSEMBLE, images(2))


def test_a_body_that_does_not_come_and_an_answer_that_takes_too_long_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with local_server(place, options=replace(OPTIONS, limits=Limits(2**20, 0.3))) as (url, _):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
            connection.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
            )
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        with waiting(monkeypatch, LocalVersion, "outputs"):
            answer = post(url, images(1))
        assert (answer.status_code, answer.json()["message"]) == (503, "no answer within 0.3 s")
        check_answer(post(url, images(1)), ENSEMBLE, images(1))


def test_an_unexpected_error_is_answered_without_its_details(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with local_server(place) as (url, _):
        with monkeypatch.context() as patch:
            patch.setattr(LocalVersion, "outputs", lambda *_: 1 / 0)
            answer = post(url, images(1))
        assert answer.status_code == 500
        assert answer.json()["error_code"] == "INTERNAL_ERROR"
        assert "division" not in answer.text
        waited_for(lambda: "division by zero" in caplog.text)
        check_answer(post(url, images(1)), ENSEMBLE, images(1))


def test_requests_need_the_token_and_probes_do_not(place: Place, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\nmore\n")
    with local_server(place, options=replace(OPTIONS, token=Token.of_file(str(tmp_path / "token")))) as (url, _):
        for given in (
            {},
            {"Authorization": SECRET},
            {"Authorization": f"Bearer {SECRET}x"},
            {"Authorization": "Bearer é"},
        ):
            headers = {name: value.encode("latin-1") for name, value in given.items()}
            answer = post(url, images(1), **headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert get(url, "metrics", **headers).status_code == 401
            assert get(url, "nowhere", **headers).status_code == 401
        for path in ("health", "health/live", "health/ready", "ping", "docs"):
            assert get(url, path).status_code == 200
        right = {"Authorization": f"bearer {SECRET}"}
        check_answer(post(url, images(1), **right), ENSEMBLE, images(1))
        assert get(url, "metrics", **right).status_code == 200


@pytest.mark.parametrize("content", ["", "\n" + SECRET, "short", "x" * 15, "with blanks in the token", "é" * 20])
def test_a_token_that_others_could_guess_or_nobody_could_send_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(InputError, match=r"^token_file='.*token': its first line must be at least 16 visible ASCII"):
        Token.of_file(str(tmp_path / "token"))
    with pytest.raises(InputError, match=r"^token_file='nowhere': cannot be read \(No such file"):
        Token.of_file("nowhere")


def test_every_request_is_a_line_of_json(place: Place, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with local_server(place, options=replace(OPTIONS, access_log=str(log))) as (url, _):
        post(url, images(5))
        waited_for(lambda: log.read_text().endswith("\n"))
        log.rename(tmp_path / "access.log.1")
        get(url, "no\nwhere?" + "x" * 1000)
        post(url, images(1)[:, 1:])
    (first,) = map(json.loads, (tmp_path / "access.log.1").read_text().splitlines())
    second, third = map(json.loads, log.read_text().splitlines())
    assert (first["method"], first["path"], first["status"], first["images"]) == ("POST", "/invocations", 200, 5)
    assert first["model"] == "models:/mine/1"
    assert 0 < first["members"] < first["ms"]
    assert (second["path"], second["status"]) == ("/no\nwhere", 404)
    assert (third["status"], third["client"]) == (400, "127.0.0.1")


def test_the_log_of_requests_must_be_writable(place: Place, tmp_path: Path) -> None:
    options = replace(OPTIONS, access_log=str(tmp_path / "nowhere" / "log"))
    with (
        pytest.raises(InputError, match=r"^access_log='.*': cannot be written \(No such file"),
        local_server(place, options=options),
    ):
        pass


def test_what_is_in_flight_is_answered_before_the_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(1) as pool, ExitStack() as patched:
        with local_server(place) as (url, server):
            waits, go = patched.enter_context(waiting(monkeypatch, LocalVersion, "outputs"))
            asking = pool.submit(post, url, images(3))
            assert waits.wait(SECONDS)
            threading.Timer(0.5, go.set).start()
        # The block has ended only now.
        assert go.is_set()
        check_answer(asking.result(), ENSEMBLE, images(3))
        assert server.answered == 1
    with pytest.raises(requests.ConnectionError):
        get(url, "health/live")


@pytest.fixture(scope="module")
def two_versions_once(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    copied = place.copy(tmp_path_factory.mktemp("two"))
    register(copied, "mine", OTHER)
    return copied


@pytest.fixture
def two_versions(two_versions_once: Place, tmp_path: Path) -> tuple[Place, Callable[[int], None]]:
    """Return a store with a second version, and a function that moves the alias to one of them."""
    own = two_versions_once.copy(tmp_path)

    def move(version: int) -> None:
        own.client.set_registered_model_alias("mine", "champion", str(version))

    move(1)
    return own, move


def test_while_the_alias_moves_each_request_is_answered_by_one_version(
    two_versions: tuple[Place, Callable[[int], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, move = two_versions
    monkeypatch.setattr(alias, "_SECONDS_BETWEEN_LOOKS", 0.02)
    ended = threading.Event()

    def ask_until_the_end(url: str) -> set[str]:
        seen = set()
        while not ended.wait(0.002):
            answer = post(url, images(3))
            version = answer.headers["Sensai-Model"]
            check_answer(answer, {"models:/mine/1": ENSEMBLE, "models:/mine/2": OTHER}[version], images(3))
            seen.add(version)
        return seen

    with local_server(place, follow_alias=True) as (url, server), ThreadPoolExecutor(3) as clients:
        asking = [clients.submit(ask_until_the_end, url) for _ in range(3)]
        try:
            for version in (2, 1, 2):
                move(version)
                waited_for(lambda version=version: server.version.name == f"models:/mine/{version}")
                assert get(url, "health/ready").status_code == 200
                time.sleep(0.1)
        finally:
            ended.set()
        assert set.union(*(each.result() for each in asking)) == {"models:/mine/1", "models:/mine/2"}
        check_answer(post(url, images(4)), OTHER, images(4))


def test_a_version_that_cannot_be_loaded_does_not_replace_the_one_that_answers(
    two_versions: tuple[Place, Callable[[int], None]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place, move = two_versions
    place.client.set_model_version_tag("mine", "2", tags.MANIFEST, "0" * 64)
    monkeypatch.setattr(alias, "_SECONDS_BETWEEN_LOOKS", 0.02)
    with local_server(place, follow_alias=True) as (url, _):
        move(2)
        waited_for(lambda: "still answers" in caplog.text)
        time.sleep(0.2)
        (said,) = [each.getMessage() for each in caplog.records if "still answers" in each.getMessage()]
        assert re.match(
            r"models:/mine@champion: models:/mine/1 still answers: InputError: .*manifest\.json is not the file that was",
            said,
        )
        check_answer(post(url, images(2)), ENSEMBLE, images(2))


def test_a_server_on_the_command_line_keeps_to_loopback_and_ends_at_ctrl_c(place: Place, tmp_path: Path) -> None:
    before = place.runs()
    port = free_port()
    with place.active():
        process = subprocess.Popen(
            command("serve", model_uri=URI, port=port, access_log="-"),
            cwd=tmp_path,
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Tests that were started in the background ignore interrupts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, process.communicate()[1]
        try:
            return get(url, "health/ready").ok
        except requests.ConnectionError:
            return False

    try:
        waited_for(is_ready)
        for _ in range(3):
            check_answer(post(url, images(2)), ENSEMBLE, images(2))
        with pytest.raises(requests.ConnectionError):
            get(f"http://[::1]:{port}", "health/live")
        listening = [
            each.laddr.ip for each in psutil.Process(process.pid).net_connections("tcp") if each.status == "LISTEN"
        ]
        assert listening == ["127.0.0.1"]
        assert psutil.Process(process.pid).children() == []
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    # Standard output has the log of requests and nothing else.
    statuses = [json.loads(line)["status"] for line in output.splitlines() if "/invocations" in line]
    assert statuses == [200] * 3
    assert f"answers at {url}" in errors
    (run,) = place.new_runs(before)
    assert (run.info.status, run.data.metrics["requests"]) == ("FINISHED", 3)


def test_a_port_that_is_taken_is_named(place: Place, launched: Entry) -> None:
    with socket.socket() as taken, place.active():
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = launched("serve", model_uri=URI, port=taken.getsockname()[1])
    assert refused.returncode == 2
    said = r"error: serve: host='127\.0\.0\.1', port=\d+: cannot be listened on \(.*in use\)"
    assert re.fullmatch(said, refused.stderr.splitlines()[-1]), refused.stderr


def test_files_that_were_not_registered_are_not_served(place: Place, tmp_path: Path, launched: Entry) -> None:
    own = place.copy(tmp_path)
    own.client.set_model_version_tag("mine", "1", tags.MANIFEST, "0" * 64)
    with own.active():
        refused = launched("serve", model_uri=URI, port=free_port())
    assert refused.returncode == 2
    said = f"error: serve: model_uri='{URI}': manifest.json is not the file that was registered: SHA-256 "
    assert refused.stderr.splitlines()[-1].startswith(said)


@pytest.mark.parametrize("uri", ["models:/nothing/1", "models:/mine@nobody", "x"])
def test_a_model_that_is_not_there_is_named(place: Place, launched: Entry, uri: str) -> None:
    with place.active():
        refused = launched("serve", model_uri=uri, port=free_port())
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"error: serve: model_uri={uri!r}: ")
