"""`ftrun serve`: requests that come together are answered together, and as `ftrun predict` answers them."""

from __future__ import annotations

import asyncio
import csv
import http.client
import importlib.util
import json
import os
import signal
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lab import ran, settings, toy

from ftrun.errors import DataError
from ftrun.experiments.inference import FinishedRun
from ftrun.experiments.serving.answering import Answering
from ftrun.experiments.serving.app import Limits, Service
from ftrun.experiments.serving.batching import Batcher, Full

SERVED = all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn"))
served = pytest.mark.skipif(not SERVED, reason="the extra serve")
JSON = (b"content-type", b"application/json")


@pytest.fixture(scope="module")
def answering(toy_files, tiny_model_dir, tmp_path_factory) -> Answering:
    run = ran(
        tmp_path_factory.mktemp("serve") / "run",
        toy(toy_files, tiny_model_dir, "train.epochs=1", "train.max_steps=2", "baselines=false"),
    )
    return Answering(FinishedRun(run))


@pytest.fixture(scope="module")
def rows(toy_files) -> list[dict[str, Any]]:
    with (toy_files / "test.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def predicted(answering, toy_files) -> list[dict[str, Any]]:
    """What `ftrun predict` gives to the rows."""
    found = answering.finished.answers(answering.finished.data(str(toy_files / "test.csv"), answered=False))
    return [found[number] for number in range(len(found))]


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    labels = [one["answer"] for one in found] == [one["answer"] for one in expected]
    numbers = [one["probability"] for one in found], [one["probability"] for one in expected]
    return labels and numbers[0] == pytest.approx(numbers[1], abs=1e-6)


def test_a_run_whose_columns_have_no_setting_takes_objects_all_the_same(tmp_path):
    words = ["task=digits", "model=mlp", "device=cpu", "train.max_steps=2", "baselines=false"]
    digits = Answering(FinishedRun(ran(tmp_path / "run", settings(*words))))
    with pytest.raises(DataError, match=r"row 1 of rows is \[0\]; possible: an object$"):
        digits.rows([[0]])
    (answers,) = digits.answers(digits.rows([{f"pixel{n}": n % 17 for n in range(64)}]))
    assert answers["answer"] in {*"0123456789"}


def test_what_waits_is_answered_together_and_nobody_gets_another_s_answer():
    calls: list[list[int]] = []
    free = threading.Event()

    def answer(requests):
        calls.append([len(rows) for rows in requests])
        free.wait(10)
        return [DataError("no") if rows[0] == {"n": 3} else [row["n"] for row in rows] for rows in requests]

    async def all_of_them() -> list[Any]:
        batcher = Batcher(answer, most=4, room=8)
        working = asyncio.create_task(batcher.run())
        first = asyncio.create_task(batcher.ask([{"n": 0}]))
        while not calls:
            await asyncio.sleep(0.001)
        sizes = {1: 1, 2: 2, 3: 1, 4: 3}
        others = [asyncio.create_task(batcher.ask([{"n": n}] * size)) for n, size in sizes.items()]
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await batcher.ask([{"n": 5}] * 2)
        free.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        assert (batcher.answered, batcher.batches, batcher.rows_waiting) == (8, 3, 0)
        working.cancel()
        batcher.thread.shutdown()
        return found

    found = asyncio.run(all_of_them())
    assert calls == [[1], [1, 2, 1], [3]]
    assert [found[0], found[1], found[2], found[4]] == [[0], [1], [2, 2], [4, 4, 4]]
    assert isinstance(found[3], DataError)


def test_a_bug_is_each_asker_s_and_the_next_request_is_answered():
    def answer(requests):
        if requests[0] == [{}]:
            raise ZeroDivisionError
        return [["fine"] for _ in requests]

    async def both() -> Any:
        batcher = Batcher(answer, most=4, room=8)
        working = asyncio.create_task(batcher.run())
        with pytest.raises(ZeroDivisionError):
            await batcher.ask([{}])
        found = await batcher.ask([{"n": 1}])
        working.cancel()
        batcher.thread.shutdown()
        return found

    assert asyncio.run(both()) == ["fine"]


def test_joined_requests_are_answered_as_the_file_and_a_wrong_one_alone_is_refused(
    answering, rows, predicted
):
    cut = [rows[:3], rows[3:4], [{"words": "none"}], rows[4:]]
    found = answering.each(cut)
    assert isinstance(found[2], DataError)
    assert str(found[2]).startswith("task.text=text: rows has no such column; it has 'words'")
    assert same([*found[0], *found[1], *found[3]], predicted)
    wrong = answering.each([[{"text": "fine"}], [{"text": 3}], [{"text": ""}]])
    assert str(wrong[1]) == "task.text=text: row 1 of rows holds an integer, not text"
    assert wrong[0][0]["answer"] and wrong[2] == [dict.fromkeys(predicted[0])]


def asked(service: Service, *requests: tuple[str, str, bytes, list]) -> list[tuple[int, dict[str, Any]]]:
    """Status and content of the answers to requests that come at the same time, over ASGI."""
    app = service.application()

    async def one(method: str, path: str, body: bytes, headers: list) -> tuple[int, dict[str, Any]]:
        parts = [body[start : start + 4096] for start in range(0, len(body), 4096)] or [b""]
        events = [
            {"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts
        ]
        said: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return events.pop(0) if events else {"type": "http.disconnect"}

        async def send(event: dict[str, Any]) -> None:
            said.append(event)

        scope = {
            "type": "http", "method": method, "path": path, "headers": headers, "query_string": b"",
            "raw_path": path.encode(), "root_path": "", "scheme": "http", "http_version": "1.1",
            "asgi": {"version": "3.0"},
        }  # fmt: skip
        await app(scope, receive, send)
        return said[0]["status"], json.loads(b"".join(event.get("body", b"") for event in said[1:]))

    async def every() -> list[Any]:
        async with service.living(app):
            return await asyncio.gather(*(one(*request) for request in requests))

    return asyncio.run(every())


def post(content: Any, kind: list | None = None) -> tuple[str, str, bytes, list]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return "POST", "/predict", body, [JSON] if kind is None else kind


@served
def test_requests_at_the_same_time_get_the_answers_of_predict(answering, rows, predicted):
    service = Service(answering, Limits(10**6, 100, 100, 1000), {"run": "toys"})
    found = asked(service, *(post({"rows": [row["text"]]}) for row in rows), ("GET", "/health", b"", []))
    assert [status for status, _ in found] == [200] * (len(rows) + 1)
    assert same([content["answers"][0] for _, content in found[:-1]], predicted)
    assert service.batcher.answered == len(rows) and service.batcher.batches <= 3
    assert found[-1][1]["status"] == "ok" and found[-1][1]["run"] == "toys"


@served
@pytest.mark.parametrize(
    "request_, status, line",
    [
        (post(b'{"rows": ['), 422, "the body is no JSON: Expecting value: line 1 column 11 (char 10)"),
        (post({"row": []}), 422, 'the body is an object with a list of rows: {"rows": […]}'),
        (post({"rows": []}), 422, "rows: a list with a row or more is needed"),
        (post({"rows": [["a"]]}), 422, "row 1 of rows is ['a']; possible: an object with text, or a text"),
        (post({"rows": [{"text": None, "b": 1}, {"b": "x"}, {"text": []}]}), 422,
         "task.text=text: row 3 of rows holds a list, not text"),
        (post({"rows": ["a"] * 4}), 413, "4 rows; a request has 3 at most"),
        (post({"rows": ["a" * 9000]}), 413, "the body has more than 8 kB"),
        (post({"rows": ["a"]}, []), 415, "Content-Type is not set; possible: application/json"),
        (("GET", "/predict", b"", []), 405, "GET /predict is not there; possible: POST /predict, GET"),
        (("GET", "/", b"", []), 404, "GET / is not there; possible: POST /predict, GET"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_one_line(answering, request_, status, line):
    [(found, content)] = asked(Service(answering, Limits(8000, 3, 10, 10), {"run": "toys"}), request_)
    assert found == status and content.keys() == {"detail"} and content["detail"].startswith(line)


@served
def test_the_interface_is_described_with_the_run_s_columns(answering):
    [(_, found)] = asked(
        Service(answering, Limits(8000, 3, 10, 10), {"run": "toys"}), ("GET", "/openapi.json", b"", [])
    )
    assert found["openapi"] == "3.1.0" and [*found["paths"]] == ["/predict", "/health"]
    body = found["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["rows"]["maxItems"] == 3
    assert body["properties"]["rows"]["items"]["anyOf"][1]["properties"] == {"text": {"type": "string"}}
    assert {"200", "413", "415", "422", "503"} == {*found["paths"]["/predict"]["post"]["responses"]}


@served
@pytest.mark.enable_socket
def test_it_listens_answers_and_ends_at_sigterm(answering, ftrun_inprocess, tmp_path, monkeypatch):
    """The client is a thread; what it asked for before the signal is answered."""
    from ftrun.experiments.serving import server

    found: list[Any] = []
    plainly, begun = Answering.answers, threading.Event()

    def slowly(self, rows):
        begun.set()
        time.sleep(0.2)
        return plainly(self, rows)

    monkeypatch.setattr(Answering, "answers", slowly)
    monkeypatch.setattr(server, "serve", with_client(server.serve, begun, found))
    said = ftrun_inprocess("serve", str(answering.finished.run.path), "--port", "0")
    assert said.stdout.startswith(f"{answering.finished.run.path} answers at http://127.0.0.1:")
    assert said.stdout.endswith("stopped\n") and found[0][0] == 200 and found[0][1]["answers"][0]["answer"]


def with_client(serve, begun: threading.Event, found: list[Any]):
    """The server with a client that asks once, and sends SIGTERM when its answer is being computed."""

    def client(port: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as line:
            line.request("POST", "/predict", b'{"rows": ["a film"]}', {"content-type": "application/json"})
            if begun.wait(60):
                os.kill(os.getpid(), signal.SIGTERM)
            answer = line.getresponse()
            found.append((answer.status, json.loads(answer.read())))

    def serving(app, place, ready):
        asking = threading.Thread(target=client, args=(place.getsockname()[1],))
        serve(app, place, lambda: (ready(), asking.start()))
        asking.join()

    return serving


@served
@pytest.mark.enable_socket
def test_a_signal_before_the_first_answer_ends_it(answering):
    from ftrun.experiments.serving import server

    service = Service(answering, Limits(8000, 3, 10, 10), {"run": "toys"})
    with server.listening("127.0.0.1", 0) as place:
        before = signal.getsignal(signal.SIGTERM)
        server.serve(service.application(), place, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is before


@served
@pytest.mark.enable_socket
def test_ctrl_c_twice_ends_it_without_a_traceback(answering, capfd):
    from ftrun.experiments.serving import server

    service = Service(answering, Limits(8000, 3, 10, 10), {"run": "toys"})

    def twice():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    with server.listening("127.0.0.1", 0) as place:
        server.serve(service.application(), place, threading.Timer(1, twice).start)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.enable_socket
@pytest.mark.parametrize(
    "words, said",
    [
        (["--rows", "0"], "serve: --rows must be at least 1, not 0"),
        (["--port", "70000"], "serve: --port 70000: a port is 1 to 65535, or 0 for any that is free"),
        (["--host", "256.1.1.1"], "serve: nothing can listen at 256.1.1.1 port 8000 ("),
        (
            ["--host", "192.0.2.1"],
            "serve: nothing can listen at 192.0.2.1 port 8000 (cannot assign requested address)\n",
        ),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(answering, ftrun_inprocess, words, said, monkeypatch):
    from ftrun.experiments.serving import server

    monkeypatch.setattr(server, "NEEDED", ())
    result = ftrun_inprocess("serve", str(answering.finished.run.path), *words, check=False)
    assert result.returncode == 2 and result.stderr.startswith(f"ftrun: {said}")
    monkeypatch.setattr(server, "NEEDED", ("no_such_module",))
    result = ftrun_inprocess("serve", str(answering.finished.run.path), check=False)
    assert (
        result.returncode == 2 and "serve needs no_such_module: pip install 'ftrun[serve]'" in result.stderr
    )
    assert ftrun_inprocess("serve", "nowhere", check=False).returncode == 2 and not Path("nowhere").exists()
