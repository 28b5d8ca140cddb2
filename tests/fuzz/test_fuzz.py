"""The fuzzer itself: the corpus is valid, a few hundred strangers from a fixed seed do no harm, and a fault would be found.

The long runs are `nox -s fuzz`.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from raven.codec.wire import parse_message
from raven.grpc.calls import Calls
from tests.codec.reference import type_of
from tests.fuzz import __main__ as command
from tests.fuzz.connections import Connections, Failed, Session
from tests.fuzz.mutations import join, mutate_session, segments, split
from tests.fuzz.request_path import Requests
from tests.fuzz.seeds import CORPUS, requests, sessions

SEED = 20_261_122


def test_the_corpus_is_what_the_seeds_write() -> None:
    for folder, made in (("requests", requests()), ("connections", sessions())):
        files = {path.stem: path.read_bytes() for path in (CORPUS / folder).glob("*.bin")}
        assert {name: data for name, data in made if files.get(name) != data} == {}


def test_the_requests_of_the_corpus_are_valid() -> None:
    corpus = command.corpus_of_requests()
    assert len(corpus) >= 16
    for name, data in corpus:
        assert bytes(parse_message(data, type_of(name))) == data


async def test_the_sessions_of_the_corpus_do_no_harm() -> None:
    corpus = command.corpus_of_sessions()
    async with Connections.open(corpus) as target:
        await target.run([Session([session], way_out) for session in corpus for way_out in Session.WAYS_OUT])
        await target.check_honest()


def test_sessions_are_cut_into_frames_and_joined_again() -> None:
    for session in command.corpus_of_sessions():
        assert join(split(session)) == session


def test_a_seed_makes_the_same_inputs_again() -> None:
    def made() -> list[bytes]:
        target, corpus, random = Requests(command.corpus_of_requests()), command.corpus_of_sessions(), Random(SEED)
        strange = [mutate_session(corpus, random) for _ in range(200)]
        return [*(target.make(random) for _ in range(200)), *strange, *segments(strange[0], random)]

    first = made()
    assert made() == first
    assert len(set(first)) > 300


def test_an_input_survives_its_file() -> None:
    session = Session([b"abc", bytes(70_000)], "reset")
    again = Session.read(bytes(session))
    assert (again.parts, again.way_out) == (session.parts, session.way_out)


def test_requests_at_random(tmp_path: Path) -> None:
    assert command.fuzz_requests(SEED, 60, tmp_path, 1_000) == 1_000


async def test_connections_at_random(tmp_path: Path) -> None:
    run = await command.fuzz_connections(SEED, 60, tmp_path, 100)
    assert run.executions == 100


def test_a_fault_of_the_request_path_is_found_and_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.codec.reference.parse_message", lambda data, message_type: {}[data])
    with pytest.raises(Failed, match="KeyError"):
        command.fuzz_requests(SEED, 60, tmp_path, 1_000)
    (path,) = tmp_path.iterdir()
    with pytest.raises(KeyError):
        command.replay([path])


async def test_a_fault_of_the_server_is_found_and_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: Calls, _stream: object) -> None:
        raise LookupError("a reset")

    monkeypatch.setattr(Calls, "cancel", broken)
    with pytest.raises(Failed, match="LookupError"):
        await command.fuzz_connections(SEED, 60, tmp_path, 1_000)
    (path,) = tmp_path.iterdir()
    with pytest.raises(Failed, match="LookupError"):
        await command.replay_connections([path.read_bytes()])
    monkeypatch.undo()
    await command.replay_connections([path.read_bytes()])
