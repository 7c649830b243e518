"""The server keeps its promises: to those who ask well, to those who do not, and when it ends."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import torch
from fastapi import FastAPI, Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from mnist_cnn import serve
from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.serve.app import make_app
from mnist_cnn.serve.batching import Batches
from mnist_cnn.serve.limits import Limits
from mnist_cnn.serve.reading import read_candidates
from tests.conftest import Result
from tests.support.servers import Server, png

FORM = "multipart/form-data; boundary=b"
JSON = "application/json"
MAX_BYTES, MAX_PIXELS = 100_000, 1_000_000


def form(content: bytes, name: str = "image", filename: str = "digit.png") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
    return b"--b\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n--b--\r\n"


def bomb(side: int) -> bytes:
    """A PNG of side × side pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = zlib.compress(b"\0" * (side // 8 + 1) * min(side, 1000))
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def grid(value: Any = 0, rows: int = 28, columns: int = 28) -> list[list[Any]]:
    return [[value] * columns for _ in range(rows)]


HALF = png(torch.randint(0, 256, (50, 50), dtype=torch.uint8))[:1500]
PIXELS = grid()
PIXELS[10][10:15] = [200, 255, 255, 255, 200]
BAD: dict[str, tuple[str, bytes, int, str]] = {
    "nothing at all": ("", b"", 415, "Content-Type"),
    "text": ("text/plain", b"7", 415, "Content-Type"),
    "empty JSON": (JSON, b"", 400, "no JSON"),
    "half of JSON": (JSON, b'{"pixels": [[', 400, "no JSON"),
    "no UTF-8": (JSON, b'{"image": "\xff\xfe"}', 400, "no JSON"),
    "a deep nest": (JSON, b"[" * 50_000, 400, "no JSON"),
    "a list": (JSON, b"[1]", 422, "give"),
    "another key": (JSON, b'{"picture": ""}', 422, "give"),
    "both keys": (JSON, b'{"image": "", "pixels": []}', 422, "give"),
    "NaN": (JSON, json.dumps({"pixels": grid(float("nan"))}).encode(), 400, "no JSON"),
    "infinity": (JSON, b'{"pixels": Infinity}', 400, "no JSON"),
    "a very large number": (JSON, b'{"pixels": ' + b"9" * 9000 + b"}", 400, "no JSON"),
    "fractions": (JSON, json.dumps({"pixels": grid(0.5)}).encode(), 422, "whole numbers"),
    "true": (JSON, json.dumps({"pixels": grid(True)}).encode(), 422, "whole numbers"),
    "256": (JSON, json.dumps({"pixels": grid(256)}).encode(), 422, "whole numbers"),
    "-1": (JSON, json.dumps({"pixels": grid(-1)}).encode(), 422, "whole numbers"),
    "no ink": (JSON, json.dumps({"pixels": grid(0)}).encode(), 422, "no ink"),
    "27 rows": (JSON, json.dumps({"pixels": grid(9, rows=27)}).encode(), 422, "28 rows"),
    "a short row": (JSON, json.dumps({"pixels": [*grid(9)[1:], [9]]}).encode(), 422, "28 numbers"),
    "no base64": (JSON, b'{"image": "?!"}', 422, "base64"),
    "a canvas without pixels": (JSON, b'{"image": "data:,"}', 422, "base64"),
    "a data URL of text": (JSON, b'{"image": "data:image/svg+xml,%3Csvg%3E"}', 422, "base64"),
    "a data URL of no picture": (
        *(JSON, b'{"image": "data:image/png;base64,aGVsbG8="}'),
        *(422, "not a picture"),
    ),
    "a number for base64": (JSON, b'{"image": 7}', 422, "base64"),
    "base64 of no picture": (JSON, b'{"image": "aGVsbG8="}', 422, "not a picture"),
    "an empty form": (FORM, b"--b--\r\n", 422, '"image"'),
    "a form without its end": (FORM, form(b"x")[:40], 422, '"image"'),
    "a form without a boundary": ("multipart/form-data", form(b"x"), 400, ""),
    "a form with text for the file": (
        FORM,
        b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n7\r\n--b--\r\n',
        422,
        '"image"',
    ),
    "another field": (FORM, form(b"x", name="picture"), 422, '"image"'),
    "an empty file": (FORM, form(b""), 422, "is empty"),
    "a file that is no picture": (FORM, form(b"GIF99 hello"), 422, "not a picture"),
    "half a picture": (FORM, form(HALF), 422, "damaged"),
    "a white picture": (FORM, form(png(torch.full((50, 50), 255).byte())), 422, "ink"),
    "a bomb": (FORM, form(bomb(60_000)), 422, "pixels"),
    "a picture just too large": (FORM, form(bomb(1001)), 422, f"{MAX_PIXELS} pixels"),
    "too many bytes": (FORM, form(b"x" * MAX_BYTES), 413, f"{MAX_BYTES} bytes"),
}


class Asker:
    """Asks an application without a server."""

    def __init__(self, app: FastAPI) -> None:
        self.transport = httpx.ASGITransport(app)

    def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self.transport, base_url="http://here") as asker:
                return await asker.request(method, path, **content)

        return asyncio.run(ask())

    def post(self, path: str, **content: Any) -> httpx.Response:
        return self.ask("POST", path, **content)


@pytest.fixture(scope="module")
def reader() -> Asker:
    app = FastAPI()
    app.state.max_pixels = MAX_PIXELS
    app.add_middleware(Limits, max_bytes=MAX_BYTES, seconds=10)

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        (candidate,) = await read_candidates(request)
        return {"pixels": candidate.image.flatten().tolist()}

    return Asker(app)


# Reading


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_4xx_with_a_reason(reader: Asker, name: str) -> None:
    kind, body, status, reason = BAD[name]
    answer = reader.post("/predict", content=body, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == status
    assert reason in answer.json()["detail"]


def test_all_ways_to_ask_give_the_same_pixels(reader: Asker, mnist: MNISTDataModule) -> None:
    image = mnist.test_set.images[0]
    file = png(image)
    text = base64.encodebytes(file).decode()  # in lines, as the command base64 gives it
    answers = [
        reader.post("/predict", json={"pixels": image.tolist()}),
        reader.post("/predict", json={"image": text}),
        reader.post("/predict", json={"image": f"data:image/png;base64,{text}"}),
        reader.post("/predict", json={"image": f"DATA:;x=y;Base64,{quote(text)}"}),
        reader.post("/predict", files={"image": ("7.png", file)}),
    ]
    for answer in answers:
        assert answer.json() == {"pixels": image.flatten().tolist()}


def test_what_a_linear_net_adds_up_is_what_each_pixel_contributed() -> None:
    from mnist_cnn.serve import api

    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False))
    image = torch.randint(0, 256, (28, 28), dtype=torch.uint8)
    with torch.no_grad():
        logits = net(image.float()[None, None] / 255)[0]
    parts = api.contributions(net, image, digit=3)
    assert parts.shape == (28, 28)
    torch.testing.assert_close(parts.sum(), logits[3] - logits.mean())
    assert not parts[image == 0].any()


def test_the_accuracy_is_named_by_the_images_it_was_measured_on() -> None:
    from mnist_cnn.serve import app

    checkpoint: dict[str, Any] = {"callbacks": {"Report": {"history": [{"val/accuracy": 0.98765}]}}}
    assert app.measured(checkpoint) == {"test_accuracy": 0.9877}
    checkpoint["datamodule_hyper_parameters"] = {"val_size": 10_000}
    assert app.measured(checkpoint) == {"val_accuracy": 0.9877}
    assert app.measured({"callbacks": {"Report": {"history": []}}}) == {}


def test_a_batch_is_what_has_gathered() -> None:
    seen: list[list[int]] = []
    computing, go_on = threading.Event(), threading.Event()

    def answer(questions: list[int]) -> list[int]:
        seen.append(questions)
        computing.set()
        go_on.wait(10)
        if 13 in questions:
            raise RuntimeError("not this one")
        return [-question for question in questions]

    async def ask() -> list[Any]:
        batches = Batches(answer, max_size=4)
        first = [asyncio.create_task(batches.ask(number)) for number in (0, 1)]
        await asyncio.to_thread(computing.wait, 10)
        others = [asyncio.create_task(batches.ask(number)) for number in (2, 3, 4, 5, 6, 13)]
        await asyncio.sleep(0.05)
        others[1].cancel()  # its asker has left
        go_on.set()
        answers = await asyncio.gather(*first, *others, return_exceptions=True)
        return [*answers, await batches.ask(7)]

    *answers, bad, last = asyncio.run(ask())
    assert seen == [[0, 1], [2, 4, 5, 6], [13], [7]]
    assert [*answers[:3], *answers[4:]] == [0, -1, -2, -4, -5, -6]
    assert isinstance(answers[3], asyncio.CancelledError)
    assert isinstance(bad, RuntimeError)  # of its batch alone, and the next is answered
    assert last == -7


def test_it_can_wait_for_more() -> None:
    seen: list[list[int]] = []

    def answer(questions: list[int]) -> list[int]:
        seen.append(questions)
        return questions

    async def ask() -> None:
        batches = Batches(answer, max_size=4, wait=0.2)

        async def later(number: int) -> None:
            await asyncio.sleep(0.02 * number)
            await batches.ask(number)

        await asyncio.gather(*map(later, range(3)))

    asyncio.run(ask())
    assert seen == [[0, 1, 2]]


# The command


def test_a_missing_checkpoint_says_which_command_makes_one(cli: Callable[..., Result]) -> None:
    done = cli("serve", "missing.ckpt")
    assert done.code == 2
    assert "python -m mnist_cnn fit --config configs/cnn.yaml" in done.err.splitlines()[0]


def test_a_port_in_use_is_one_line(cli: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "some.ckpt").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli("serve", tmp_path / "some.ckpt", "--port", taken.getsockname()[1])
    assert done.code == 2
    assert "Address already in use; choose another" in done.err.splitlines()[0]


WRONG_ORIGINS = [("--cors", x) for x in ("example.org", "localhost:3000", "http://a.b/page", "")]


def test_what_no_option_can_be_is_refused(cli: Callable[..., Result]) -> None:
    for flag, value in (
        ("--port", "70000"),
        ("--timeout", "0"),
        ("--max_bytes", "-1"),
        *WRONG_ORIGINS,
    ):
        done = cli("serve", "some.ckpt", flag, value)
        assert done.code == 2
        assert flag in done.err


# The application, without a server


PAGE = "http://page.example"


@pytest.fixture
def asker(small_net: Path) -> Asker:
    """Asks an application that lets one page from elsewhere in, with the key."""
    options = serve._parser().parse_args(["--cors", "HTTP://page.example:80/"])
    app = make_app(
        str(small_net),
        api_key="secret",
        accelerator="cpu",
        max_batch_size=1,
        batch_timeout=0,
        max_bytes=MAX_BYTES,
        max_pixels=MAX_PIXELS,
        timeout=5,
        cors=options.cors,
    )
    return Asker(app)


def test_head_is_answered_as_get(asker: Asker) -> None:
    pages = ("/", "/docs", "/openapi.json", "/page/style.css", "/no")
    for path in (*pages, "/health", "/info", "/predict"):
        get, head = asker.ask("GET", path), asker.ask("HEAD", path)
        assert head.status_code == get.status_code, path
        assert head.headers.get("content-length") == get.headers.get("content-length")


def test_pages_from_the_named_origin_may_ask(asker: Asker) -> None:
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-api-key",
    }
    for origin, status, allowed in ((PAGE, 200, PAGE), ("http://other.example", 400, None)):
        preflight = asker.ask("OPTIONS", "/predict", headers=asks | {"Origin": origin})
        assert preflight.status_code == status
        assert preflight.headers.get("Access-Control-Allow-Origin") == allowed
    headers = {"Origin": PAGE, "X-API-Key": "secret"}
    answers = [
        asker.post("/predict", json={"pixels": PIXELS}, headers=headers),
        asker.post("/predict", json={"pixels": PIXELS}, headers={"Origin": PAGE}),
        asker.post(
            "/predict", content=b"x" * (MAX_BYTES + 1), headers=headers | {"Content-Type": JSON}
        ),
        asker.ask("GET", "/health", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 413, 200]
    for answer in answers:  # the page may read why it is refused
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    other = asker.ask("GET", "/health", headers={"Origin": "http://other.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


# The server


@pytest.fixture(scope="module")
def server(trained: Path) -> Iterator[Server]:
    with Server(trained, "--timeout", "5", "--max_bytes", str(MAX_BYTES)) as running:
        yield running
    assert running.process.returncode == 0
    assert [line for line in running.errors if "Invalid HTTP request" not in line] == []


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    # Room for the askers of all tests: beyond 20 connections httpx closes idle ones, now and then
    # one that another thread has just been given (httpcore's pool; "Bad file descriptor").
    room = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    with httpx.Client(base_url=server.url, timeout=30, limits=room) as browser:
        yield browser


@pytest.mark.slow
def test_it_answers_what_the_checkpoint_says(
    client: httpx.Client, trained: Path, mnist: MNISTDataModule
) -> None:
    images = mnist.test_set.images[:200]
    model, _ = load_classifier(trained)
    with torch.inference_mode():
        expected = model(images).softmax(dim=1)
    for image, row in zip(images, expected, strict=True):
        answer = client.post("/predict", files={"image": png(image)}).raise_for_status().json()
        assert set(answer) == {
            *("digit", "confidence", "probabilities", "number", "digits", "doubt"),
        }
        assert answer["digit"] == row.argmax()
        assert answer["confidence"] == max(answer["probabilities"])
        torch.testing.assert_close(torch.tensor(answer["probabilities"]), row, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_it_shows_on_request_what_it_saw_and_why(
    client: httpx.Client, mnist: MNISTDataModule
) -> None:
    image = mnist.test_set.images[0]
    query = {"pixels": "true", "contributions": "true"}
    answer = client.post("/predict", params=query, json={"pixels": image.tolist()}).json()
    assert answer["pixels"] == image.tolist()
    parts = torch.tensor(answer["contributions"])
    assert parts.shape == (28, 28)
    assert not parts[image == 0].any()
    assert parts.sum() > 0
    assert client.post("/predict?pixels=maybe", json={"pixels": PIXELS}).status_code == 422


@pytest.mark.slow
def test_each_of_many_askers_at_once_gets_the_answer_to_its_own_question(
    client: httpx.Client, server: Server, trained: Path, mnist: MNISTDataModule
) -> None:
    images = mnist.test_set.images[:640]
    model, _ = load_classifier(trained)
    with torch.inference_mode():
        expected = model(images).softmax(dim=1).max(dim=1)

    def ask(image: torch.Tensor) -> tuple[int, float]:
        answer = client.post("/predict", json={"pixels": image.tolist()}).raise_for_status().json()
        return answer["digit"], answer["confidence"]

    with ThreadPoolExecutor(64) as askers:
        digits, confidences = zip(*askers.map(ask, images), strict=True)
    assert list(digits) == expected.indices.tolist()
    torch.testing.assert_close(torch.tensor(confidences), expected.values, atol=1e-5, rtol=0)

    text = client.get("/metrics").raise_for_status().text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert float(figures['mnist_cnn_requests_total{path="/predict",status="200"}']) >= 640
    batches, answered = (float(figures[f"mnist_cnn_batch_size_{x}"]) for x in ("count", "sum"))
    assert batches < answered  # some were computed together


@pytest.mark.slow
def test_it_tells_about_itself(client: httpx.Client) -> None:
    assert client.get("/health").text == "ok"
    model = client.get("/info").json()["model"]
    assert model["net"]["class_path"] == "mnist_cnn.nets.FastCNN"
    assert 0.97 < model["test_accuracy"] < 0.995
    assert client.head("/health").headers["Content-Length"] == "2"
    page = client.get("/")
    assert "Draw a digit, or a number" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "swagger-ui" in client.get("/docs").text
    assert client.get("/swagger-ui/swagger-ui-bundle.js").status_code == 200
    assert client.get("/nothing").status_code == 404
    assert client.get("/page/../__init__.py").status_code == 404
    assert client.get("/page/%2e%2e/__init__.py").status_code == 404


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_bad_input_leaves_the_real_server_well(
    client: httpx.Client, server: Server, name: str
) -> None:
    kind, body, _, _ = BAD[name]
    answer = client.post("/predict", content=body, headers={"Content-Type": kind} if kind else {})
    assert 400 <= answer.status_code < 500
    assert answer.json()["detail"]
    assert client.post("/predict", json={"pixels": PIXELS}).status_code == 200
    assert server.process.poll() is None


@pytest.mark.slow
def test_a_body_without_end_is_refused(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    assert (
        client.post("/predict", content=endless(), headers={"Content-Type": JSON}).status_code
        == 413
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n",
    ],
    ids=["nothing", "headers", "body"],
)
def test_a_slow_client_is_not_waited_for(
    server: Server, client: httpx.Client, start: bytes
) -> None:
    before = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
        slow.sendall(start)
        slow.settimeout(0.5)
        reply = b""
        while time.monotonic() - before < 15:
            try:
                if start:
                    slow.sendall(b"1")
                if not (part := slow.recv(1000)):
                    break
                reply += part
            except TimeoutError:
                continue
            except OSError:
                break
    assert reply.startswith(b"HTTP/1.1 408")
    assert 4 < time.monotonic() - before < 12
    assert client.get("/health").text == "ok"


@pytest.mark.slow
def test_a_key_is_asked_for_where_one_is_set(trained: Path) -> None:
    with Server(trained, MNIST_CNN_API_KEY="secret") as guarded:
        client = httpx.Client(base_url=guarded.url, timeout=30)

        def ask(key: bytes | None = None) -> int:
            headers = httpx.Headers([(b"X-API-Key", key)] if key is not None else None)
            return client.post("/predict", json={"pixels": PIXELS}, headers=headers).status_code

        for wrong in (None, b"", b"Secret", b"secret\xe9"):
            assert ask(wrong) == 401
        assert ask(b"secret") == 200
        key = {"X-API-Key": "secret"}
        for path in ("/info", "/metrics"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=key).status_code == 200
        for path in ("/", "/health", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
        assert guarded.stop() == 0
    assert guarded.errors == []


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [False, True], ids=["one process", "process group"])
def test_it_answers_what_it_has_before_it_stops(trained: Path, to_all: bool) -> None:
    noise = torch.randint(0, 256, (1500, 1500), dtype=torch.uint8)
    noise[500:1000, 700:800] = 255
    picture = png(noise)
    with Server(trained) as server, httpx.Client(base_url=server.url, timeout=60) as client:

        def ask(_: int) -> int:
            return client.post("/predict", files={"image": picture}).status_code

        with ThreadPoolExecutor(20) as askers:
            answers = [askers.submit(ask, number) for number in range(20)]
            while "in_flight 2" not in client.get("/metrics").text:
                assert not all(answer.done() for answer in answers), "too fast to catch"
            before = sum(answer.done() for answer in answers)
            if to_all:
                os.killpg(server.process.pid, signal.SIGTERM)
            assert server.stop() == 0
            assert before < 20
            assert [answer.result() for answer in answers] == [200] * 20
    assert server.errors == []


# Fuzzing


def picture_bytes() -> bytes:
    file = io.BytesIO()
    image = Image.new("L", (40, 40), 255)
    image.paste(0, (10, 5, 16, 35))
    image.save(file, "PNG")
    return file.getvalue()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=40,
)
DOCUMENTS = JSON_VALUES | st.dictionaries(
    st.sampled_from(["image", "pixels", "picture"]),
    JSON_VALUES | st.binary().map(lambda b: base64.b64encode(b).decode()),
)
KINDS = st.sampled_from([JSON, FORM, "multipart/form-data", "text/plain", "image/png", ""])


@st.composite
def damaged_pictures(draw: st.DrawFn) -> bytes:
    content = bytearray(picture_bytes())
    for _ in range(draw(st.integers(1, 5))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))])


MALFORMED = st.one_of(
    st.tuples(KINDS, st.binary(max_size=2000)),
    st.tuples(st.just(JSON), DOCUMENTS.map(lambda document: json.dumps(document).encode())),
    st.tuples(st.just(JSON), st.text().map(lambda text: text.encode("utf-16"))),
    st.tuples(st.just(FORM), damaged_pictures().map(form)),
    st.tuples(st.just(FORM), st.binary().map(lambda raw: form(raw, filename=raw.hex()))),
    st.tuples(st.just(FORM), st.binary().map(lambda raw: form(picture_bytes())[: len(raw)] + raw)),
)


@pytest.mark.slow
def test_a_thousand_malformed_requests_get_no_5xx_and_kill_nobody(
    client: httpx.Client, server: Server
) -> None:
    asked = 0

    @settings(max_examples=1200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(request=MALFORMED)
    def fuzz(request: tuple[str, bytes]) -> None:
        nonlocal asked
        asked += 1
        kind, body = request
        headers = {"Content-Type": kind} if kind else {}
        answer = client.post("/predict", content=body, headers=headers)
        # Some damaged pictures are still pictures.
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
        assert answer.status_code == 200 or answer.json()["detail"]

    fuzz()
    assert asked >= 1000
    assert server.process.poll() is None
    assert client.post("/predict", json={"pixels": PIXELS}).status_code == 200


@pytest.mark.slow
def test_the_server_is_what_its_openapi_document_says(server: Server, tmp_path: Path) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,"
    checks += "response_schema_conformance,negative_data_rejection,unsupported_method"
    program = str(Path(sys.executable).parent / "schemathesis")
    command = [program, "run", f"{server.url}/openapi.json"]
    options = ["--checks", checks, "--max-examples=200", "--phases=coverage,fuzzing", "--seed=1"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
