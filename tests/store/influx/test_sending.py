"""What a server's answers mean, and that no secret is in what is said about them."""

from __future__ import annotations

import gzip

import pytest

from raven.store.config import InfluxConfig
from raven.store.influx.sending import Answer, Sender, Verdict, compressed, read_answer
from tests.ports import free_port

BAD_LINE = '{"error":"partial write: unable to parse \'x\': missing fields dropped=0"}'


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (400, BAD_LINE, Verdict.REFUSED),
        (400, '{"code":"invalid","message":"unable to parse","line":2}', Verdict.REFUSED),
        (422, '{"code":"unprocessable entity","message":"points beyond retention"}', Verdict.REFUSED),
        (400, "<html>400 Bad Request</html>", Verdict.FAILED),  # somebody between us and InfluxDB
        (400, "[]", Verdict.FAILED),
        (400, '{"error":5}', Verdict.FAILED),
        (413, "", Verdict.TOO_LARGE),
        (401, '{"code":"unauthorized"}', Verdict.MISCONFIGURED),
        (403, "", Verdict.MISCONFIGURED),
        (404, '{"error":"database not found: \\"x\\""}', Verdict.MISCONFIGURED),
        (500, "", Verdict.FAILED),
        (502, "", Verdict.FAILED),
        (0, "SSLError\nno", Verdict.FAILED),
        (799, "", Verdict.FAILED),
    ],
)
def test_verdicts(status: int, body: str, verdict: Verdict) -> None:
    answer = read_answer(status, body, {})
    assert answer.verdict is verdict
    assert answer.reason
    assert "\n" not in answer.reason


def test_a_pause_that_is_asked_for() -> None:
    assert read_answer(429, "", {"Retry-After": "7"}) == Answer(Verdict.FAILED, "429 Too Many Requests", 7.0)
    assert read_answer(503, "", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}).pause_s == 0


@pytest.mark.parametrize(
    ("status", "headers", "of_batch"),
    [(500, {}, True), (502, {}, True), (400, {}, True), (503, {"Retry-After": "3"}, False), (429, {}, False), (0, {}, False)],
)
def test_what_may_be_of_the_batch(status: int, headers: dict[str, str], of_batch: bool) -> None:
    assert read_answer(status, "", headers).of_batch is of_batch


def test_a_reason_is_short_and_says_what_would_be_valid() -> None:
    assert read_answer(502, "<html><head><title>502 Bad Gateway</title></head></html>", {}).reason == "502 Bad Gateway"
    assert len(read_answer(500, "x" * 10_000, {}).reason) < 400
    assert "valid: a token" in read_answer(401, "", {}).reason
    assert "valid: a bucket" in read_answer(404, "", {}).reason


def test_nobody_listens_and_no_secret_is_told() -> None:
    config = InfluxConfig(f"http://127.0.0.1:{free_port()}", username="raven", password="hunter2", token="hunter3", timeout_s=1)
    sender = Sender(config)
    answer = sender.send(compressed(["m f=1i 1"]))
    sender.close()
    assert answer.verdict is Verdict.FAILED
    assert "refused" in answer.reason.lower()
    assert "hunter" not in answer.reason + repr(config)


def test_lines_are_compressed_the_same_each_time() -> None:
    body = compressed(["a", "b"])
    assert gzip.decompress(body) == b"a\nb"
    assert compressed(["a", "b"]) == body
