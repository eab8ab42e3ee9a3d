"""Who asks, behind proxies or not: only proxies that the settings name are believed."""

import pytest
from fastapi.testclient import TestClient

from support.painted import Painted
from support.served_client import client_of as served
from wordmask.serving import ServeSettings, build_app
from wordmask.serving.proxies import as_told, client_of
from wordmask.serving.settings import ServeError

BEHIND = ServeSettings(trusted_proxies=("10.0.0.0/8", "fd00::1"))


def scope(peer, *forwarded, **more):
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
    return {"type": "http", "client": peer and (peer, 1234), "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("1.2.3.4", ["5.6.7.8"], "1.2.3.4"),  # no proxy of ours
        ("10.1.1.1", ["5.6.7.8"], "5.6.7.8"),
        ("10.1.1.1", ["9.9.9.9, 5.6.7.8"], "5.6.7.8"),  # the first was said by the client itself
        ("10.1.1.1", ["9.9.9.9", "5.6.7.8, 10.2.2.2"], "5.6.7.8"),
        ("10.1.1.1", ["5.6.7.8:4321"], "5.6.7.8"),
        ("fd00::1", ["[2001:db8::7]:80"], "2001:db8::/64"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["junk"], "10.1.1.1"),
        ("10.1.1.1", ["5.6.7.8, junk"], "10.1.1.1"),
        ("::ffff:1.2.3.4", [], "1.2.3.4"),
        ("2001:db8::1", [], "2001:db8::/64"),  # a client has all of these addresses
        ("testclient", [], "testclient"),
        (None, ["5.6.7.8"], ""),
    ],
)
def test_a_client_is_the_last_sender_that_is_no_named_proxy(peer, forwarded, client):
    assert client_of(scope(peer, *forwarded), BEHIND) == client


def test_headers_of_proxies_go_and_a_named_one_is_believed():
    told = {"x_forwarded_host": "example.org", "x_forwarded_prefix": "/a", "forwarded": "host=a", "host": "b"}
    told |= {"x_gradio_server": "http://c", "x_real_ip": "1.1.1.1", "x_forwarded_proto": "https"}
    foreign = as_told(scope("1.2.3.4", "5.5.5.5", **told), BEHIND)
    assert (dict(foreign["headers"]), foreign["client"][0]) == ({b"host": b"b"}, "1.2.3.4")
    believed = as_told(scope("10.1.1.1", "5.5.5.5", **told), BEHIND)
    assert (dict(believed["headers"]), believed["client"][0]) == ({b"host": b"example.org"}, "5.5.5.5")
    assert believed["scheme"] == "https"
    assert client_of(believed, BEHIND) == "5.5.5.5"


@pytest.mark.parametrize("host", ["a b", "a/b", 'a"<b>', "a:b", "[::1", "a" * 300, ""])
def test_a_host_that_is_none_is_refused(host):
    with served() as client:
        answer = client.get("/healthz", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "host")


def test_no_sender_makes_the_page_point_elsewhere():
    headers = {"x-forwarded-host": "evil.example", "x-gradio-server": "http://evil.example", "forwarded": "host=evil"}
    with served(page=True) as client:
        for path in ("/", "/config", "/docs"):
            answer = client.get(path, headers=headers)
            assert (answer.status_code, "evil" in answer.text) == (200, False)


def test_a_named_proxy_gives_the_page_its_public_address():
    app = build_app({"painted": Painted()}, ServeSettings(trusted_proxies=("10.0.0.7",)))
    ours, elsewhere = "https://masks.example", "http://testserver"
    for peer, host, root in (
        ("10.0.0.7", "masks.example", ours),
        ("10.0.0.8", "masks.example", elsewhere),
        ("10.0.0.7", "evil.example, masks.example", ours),  # the first was said by the client itself
    ):
        headers = {"x-forwarded-host": host, "x-forwarded-proto": "https"}
        with TestClient(app, client=(peer, 1)) as client:
            assert client.get("/config", headers=headers).json()["root"] == root


def test_what_is_no_address_is_refused_when_the_service_starts():
    with pytest.raises(ServeError, match=r"'nginx' is neither an address nor a network"):
        ServeSettings(trusted_proxies=("nginx",))
