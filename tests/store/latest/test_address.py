"""URLs of Redis: what they say, and what is said of those that say nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven.errors import InvalidValue
from raven.store.latest.address import Deployment, RedisAddress, parse_redis_url

SERVER, SENTINEL, CLUSTER = Deployment.SERVER, Deployment.SENTINEL, Deployment.CLUSTER


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://cache", RedisAddress(SERVER, False, (("cache", 6379),))),
        ("redis://127.0.0.1:7000/3", RedisAddress(SERVER, False, (("127.0.0.1", 7000),), db=3)),
        ("redis://cache/", RedisAddress(SERVER, False, (("cache", 6379),))),
        ("redis://[::1]:7000", RedisAddress(SERVER, False, (("::1", 7000),))),
        ("redis://[fe80::1%25eth0]", RedisAddress(SERVER, False, (("fe80::1%eth0", 6379),))),
        ("rediss://me:p%40s%2Fs%25@cache", RedisAddress(SERVER, True, (("cache", 6379),), "me", "p@s/s%")),
        ("redis://:pw@cache", RedisAddress(SERVER, False, (("cache", 6379),), "", "pw")),
        (
            "rediss://cache?ca_file=/etc/ca%20x.pem&cert_file=c&key_file=k",
            RedisAddress(
                SERVER, True, (("cache", 6379),), options={"ca_file": "/etc/ca x.pem", "cert_file": "c", "key_file": "k"}
            ),
        ),
        (
            "redis+sentinel://me:pw@a,b:7000/shelf/2?sentinel_password=x",
            RedisAddress(
                SENTINEL, False, (("a", 26379), ("b", 7000)), "me", "pw", "shelf", 2, options={"sentinel_password": "x"}
            ),
        ),
        ("rediss+cluster://a:1,b:2,[::1]", RedisAddress(CLUSTER, True, (("a", 1), ("b", 2), ("::1", 6379)))),
    ],
)
def test_what_a_url_says(url: str, address: RedisAddress) -> None:
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(
    ("url", "field", "words"),
    [
        ("", "scheme", "one of redis, rediss, redis+sentinel"),
        ("cache:6379", "scheme", "and ://"),
        ("http://cache", "scheme", "'http' is not valid"),
        ("redis://", "host", "a host name"),
        ("redis://ca che", "host", "'ca che'"),
        ("redis://::1", "host", "IPv6 address in [ ]"),
        ("redis://a,b", "host", "redis+sentinel:// or redis+cluster://"),
        ("redis://a:port", "port", "'port' is not valid: 1 to 65535"),
        ("redis://a:65536", "port", "1 to 65535"),
        ("redis://a:", "port", "1 to 65535"),
        ("redis://a/x", "database", "'x' is not valid: 0 to"),
        ("redis://a/1/2", "path", "the number of a database"),
        ("redis+cluster://a/1", "path", "a cluster has no databases"),
        ("redis+sentinel://a", "name", "like /mymaster"),
        ("redis+sentinel://a/my master", "name", "'my master'"),
        ("redis://me@a", "user:password", "user:password@ or :password@"),
        ("redis://me:p/w@a", "user:password", "%2F for '/'"),
        ("redis://me:p@w@a", "password", "%40 for '@'"),
        ("redis://me:100%@a", "password", "%25 for '%'"),
        ("redis://me:%ff@a", "password", "UTF-8"),
        ("redis://a?ca_file=x", "option", "'ca_file' is not valid: none here"),
        ("rediss://a?ca_fil=x", "option", "did you mean 'ca_file'?"),
        ("rediss://a?ca_file=", "option ca_file", "once, with a value"),
        ("rediss://a?ca_file=x&ca_file=y", "option ca_file", "once, with a value"),
        ("rediss://a?cert_file=x", "option cert_file", "cert_file and key_file, or neither"),
    ],
)
def test_an_error_names_the_part(url: str, field: str, words: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_redis_url(url)
    assert str(caught.value).startswith(f"redis_url: '********' is not valid: {field}: ")
    assert words in str(caught.value)


def shown(url: str) -> str:
    """The error, or everything that an address shows of itself."""
    try:
        address = parse_redis_url(url)
    except InvalidValue as error:
        return str(error)
    return f"{address} {address!r}"


@given(st.text(max_size=30), st.sampled_from(["redis", "rediss", "redis+sentinel", "redis+cluster"]))
def test_any_text_is_an_address_or_an_error_that_keeps_the_password(text: str, scheme: str) -> None:
    said = shown(f"{scheme}://user:hunter2{text}@host/name")
    assert "hunter2" not in said or "@" in text


@pytest.mark.parametrize(
    "url", ["redis://h:6379", "rediss://h:1/2", "redis+sentinel://a:1,[::1]:2/shelf/3", "redis+cluster://a:1,b:2"]
)
def test_an_address_is_shown_as_it_was_written(url: str) -> None:
    assert str(parse_redis_url(url)) == url
    assert str(parse_redis_url(url.replace("://", "://me:secret@"))) == url
