"""Who asks, behind proxies or not: only proxies that the settings name are believed."""

import pytest
from fastapi.testclient import TestClient

from painted import Painted
from wordmask.app import ServeSettings, build_app
from wordmask.app.proxies import as_told, client_of
from wordmask.app.settings import ServeError

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


def test_headers_of_proxies_go_unless_a_named_one_sent_them():
    told = {"x_forwarded_host": "example.org", "x_forwarded_prefix": "/a", "forwarded": "host=a", "host": "b"}
    told |= {"x_gradio_server": "http://c", "x_real_ip": "1.1.1.1"}
    assert dict(as_told(scope("1.2.3.4", "5.5.5.5", **told), BEHIND)["headers"]) == {b"host": b"b"}
    kept = dict(as_told(scope("10.1.1.1", **told), BEHIND)["headers"])
    assert kept == {b"host": b"b", b"x-forwarded-host": b"example.org"}


def test_no_sender_makes_the_page_point_elsewhere():
    headers = {"x-forwarded-host": "evil.example", "x-gradio-server": "http://evil.example", "forwarded": "host=evil"}
    with TestClient(build_app({"painted": Painted()})) as client:
        for path in ("/", "/config", "/docs"):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 200
            assert "evil" not in answer.text


def test_a_named_proxy_gives_the_page_its_public_address():
    app = build_app({"painted": Painted()}, ServeSettings(trusted_proxies=("10.0.0.7",)))
    headers = {"x-forwarded-host": "masks.example", "x-forwarded-proto": "https"}
    for peer, root in (("10.0.0.7", "https://masks.example"), ("10.0.0.8", "http://testserver")):
        with TestClient(app, client=(peer, 1)) as client:
            assert client.get("/config", headers=headers).json()["root"] == root


def test_what_is_no_address_is_refused_when_the_service_starts():
    with pytest.raises(ServeError, match=r"'nginx' is neither an address nor a network"):
        ServeSettings(trusted_proxies=("nginx",))
