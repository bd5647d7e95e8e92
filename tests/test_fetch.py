"""Fetching what a URL leads to: never from inside, never too much, never for too long."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import instructor
from instructor.exceptions import MultimodalError
from instructor.fetch import MAX_REDIRECTS, fetch, is_public

HERE = Path(__file__).parent
CONNECTED: list[Any] = []
"""Every address that this process connects to."""


def _hear(event: str, told: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        CONNECTED.append(told[1])


sys.addaudithook(_hear)


def reply(body: bytes = b"content", *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """An answer in HTTP/1.1."""
    told = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*told, "", ""]).encode() + body


def moved(url: str) -> bytes:
    """An answer that sends one elsewhere."""
    return reply(b"", f"Location: {url}", status="302 Found")


class Site:
    """A server on loopback: gives its answers in turn, the last for ever; a slow one byte by byte."""

    def __init__(self, *answers: bytes, address: str = "127.0.0.1", slow: bool = False, tls: Any = None) -> None:
        self.answers, self.slow = list(answers), slow
        self.asked: list[str] = []
        self.socket = socket.create_server((address, 0))
        self.port = self.socket.getsockname()[1]
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.thread = threading.Thread(target=self.serve)

    def serve(self) -> None:
        """Answer until the socket is closed."""
        while True:
            try:
                talk, _ = self.socket.accept()
            except ssl.SSLError:  # a handshake that the client broke off
                continue
            except OSError:
                return
            with talk, suppress(OSError):  # the client may go away
                self.asked.append(talk.recv(65536).decode())
                answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
                for at in range(0, len(answer), 1 if self.slow else len(answer)):
                    talk.sendall(answer[at : at + 1] if self.slow else answer)
                    time.sleep(0.002 * self.slow)


@contextmanager
def site(*answers: bytes, **options: Any) -> Iterator[Site]:
    """A site while it is needed."""
    made = Site(*answers, **options)
    made.thread.start()
    try:
        yield made
    finally:
        with suppress(OSError):
            made.socket.shutdown(socket.SHUT_RDWR)
        made.socket.close()
        made.thread.join()


def on_loopback(*addresses: str) -> Any:
    """A resolver that gives these addresses in turn for every name, and the last one for ever."""
    left = list(addresses or ("127.0.0.1",))

    def resolve(_host: str, port: int, **_: Any) -> Any:
        address = left[0] if len(left) == 1 else left.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return resolve


def get(url: str, limit: int = 1000, **world: Any) -> bytes:
    """What is there, in a world where loopback is public and every name leads to it."""
    inside = {"resolve": on_loopback(), "allowed": lambda address: address == "127.0.0.1"}
    return fetch(url, limit, **{**inside, **world})


def test_what_is_there_is_fetched() -> None:
    """The path and the query are asked for, on the name's own host; the content comes back."""
    with site(reply(b"\x89PNG")) as shop:
        found = get(f"http://media.example:{shop.port}/ä b.png?size=1&x=%20#part")

    assert found == b"\x89PNG"
    assert shop.asked[0].startswith("GET /%C3%A4%20b.png?size=1&x=%20 HTTP/1.1\r\n")
    assert f"Host: media.example:{shop.port}\r\n" in shop.asked[0]


def test_a_body_in_chunks_is_fetched() -> None:
    """A server need not say beforehand how much there is."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with site(chunked) as shop:
        assert get(f"http://a.example:{shop.port}/") == b"abcde"


# H7: nothing inside is reached

INSIDE = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0x7f000001:{port}/",
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.255.255.254:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::]:{port}/",
    "http://[fe80::1]:{port}/",
    "http://[fc00::1]:{port}/",
    "http://[fec0::1]:{port}/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[ff02::1]:{port}/",
    "http://[2001:db8::1]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://168.63.129.16/machine",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:{port}/",  # the wide digits of CJK fonts
    "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:{port}/",  # circled digits
    "http://127\u30020\u30020\u30021:{port}/",  # the ideographic full stop
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "gopher://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "http:///etc/passwd",
    "http://[127.0.0.1/",
    "http://127.0.0.1:99999/",
    "http://user:secret@media.example/",
    "http://media.example\\@127.0.0.1:{port}/",
    "http://media.example#@127.0.0.1:{port}/",
    "",
]


@pytest.mark.fault("H7")
@pytest.mark.parametrize("form", INSIDE)
def test_no_form_of_an_inside_address_is_connected_to(form: str) -> None:
    """However loopback, a private network or a cloud's metadata are spelled: an error, and no socket."""
    with site(reply(b"secret")) as inside:
        CONNECTED.clear()
        with pytest.raises(MultimodalError):
            fetch(form.format(port=inside.port), 1000)

    assert [] == CONNECTED
    assert [] == inside.asked


@pytest.mark.fault("H7")
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *(("93.184.215.14", True), ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True), ("64:ff9b::5db8:d70e", True)),
        *(("::ffff:93.184.215.14", True), ("::ffff:10.0.0.1", False), ("64:ff9b::a00:1", False)),
        *(("::93.184.215.14", False), ("2002:5db8:d70e::1", False), ("fe80::1%2", False), ("203.0.113.7", False)),
    ],
)
def test_only_addresses_of_the_internet_are_public(address: str, expected: bool) -> None:
    """What is mapped or translated counts as what it stands for; relays and examples do not count."""
    assert is_public(address) is expected


@pytest.mark.fault("H7")
@pytest.mark.parametrize("inside", ["127.0.0.2", "10.0.0.1", "169.254.169.254"])
def test_a_name_with_one_address_inside_is_refused_whole(inside: str) -> None:
    """It is not tried which of a name's addresses answers."""
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 80)) for each in ("127.0.0.1", inside)]
    CONNECTED.clear()

    with pytest.raises(MultimodalError, match="not a public host"):
        get("http://both.example/", resolve=lambda *_, **__: places)

    assert [] == CONNECTED


@pytest.mark.fault("H7")
@pytest.mark.parametrize("user", ["ann:secret@", "ann@", "@"])
def test_credentials_go_nowhere(user: str) -> None:
    """Neither to a public host, nor are they left out in silence."""
    with site(reply()) as shop, pytest.raises(MultimodalError, match=r"'a\.example' holds credentials"):
        get(f"http://{user}a.example:{shop.port}/")

    assert [] == shop.asked


@pytest.mark.fault("H7")
def test_a_redirect_is_looked_at_like_the_first_url() -> None:
    """Neither another host nor another scheme is reached by way of a public one."""
    with site(reply(b"secret"), address="127.0.0.2") as inside:
        odd = ("file:///etc/passwd", "http://[", "http://.x/", "https://" + "x" * 300, "http://127.0.0.1:x/")
        for target in (f"http://127.0.0.2:{inside.port}/", f"//u:p@127.0.0.1:{inside.port}/", *odd):
            with site(moved(target)) as outside, pytest.raises(MultimodalError):
                get(f"http://127.0.0.1:{outside.port}/", resolve=socket.getaddrinfo)

    assert [] == inside.asked


@pytest.mark.fault("H7")
def test_a_name_that_changes_its_mind_leads_nowhere_else() -> None:
    """The connection goes to the very address that was looked at, for the name is not looked up again."""
    with site(reply(b"outside")) as outside, site(reply(b"secret"), address="127.0.0.2") as inside:
        CONNECTED.clear()
        found = get(f"http://rebound.example:{outside.port}/", resolve=on_loopback("127.0.0.1", "127.0.0.2"))

    assert found == b"outside"
    assert [("127.0.0.1", outside.port)] == CONNECTED
    assert [] == inside.asked


@pytest.mark.fault("H7")
def test_a_name_that_changes_its_mind_between_redirects_is_looked_at_again() -> None:
    """A second visit to the same name is checked like the first."""
    with site(moved("/again")) as outside, pytest.raises(MultimodalError, match="not a public host"):
        get(f"http://rebound.example:{outside.port}/", resolve=on_loopback("127.0.0.1", "127.0.0.2"))

    assert 1 == len(outside.asked)


def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    """A name may have addresses that this machine cannot reach, as of IPv6 in many a container."""
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 80)) for each in ("127.0.0.9", "127.0.0.1")]
    with site(reply(b"here")) as shop:
        found = get(
            f"http://a.example:{shop.port}/", resolve=lambda *_, **__: places, allowed=lambda each: each[:4] == "127."
        )

    assert found == b"here"


@pytest.mark.parametrize(("hops", "reached"), [(MAX_REDIRECTS, True), (MAX_REDIRECTS + 1, False)])
def test_five_redirects_are_followed(hops: int, reached: bool) -> None:
    """The fifth leads to the content, the sixth to an error."""
    with site(*(moved(f"/{hop}") for hop in range(hops)), reply(b"here")) as shop:
        url = f"http://a.example:{shop.port}/"
        if reached:
            assert get(url) == b"here"
        else:
            with pytest.raises(MultimodalError, match="after 5 redirects"):
                get(url)


@pytest.mark.fault("H4")
def test_errors_show_no_secret_of_a_url() -> None:
    """Neither credentials nor the query, which may be a signature, nor a fragment stand in an error."""
    for url in (
        "http://127.0.0.1/x#canary",
        "http://ann:canary@a.example/",
        "http://127.0.0.1/x?sig=canary",
        "ftp://b:canary@a.example/?canary",
    ):
        with pytest.raises(MultimodalError) as caught:
            fetch(url, 1000)
        assert "canary" not in str(caught.value)


# H8: bounded in size and in time


@pytest.mark.fault("H8")
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (reply(b"x" * 1001), "more than 1000 bytes"),
        (reply(b"x", length=10**12), "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000, "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024, "more than 1000 bytes"),
        (reply(b"abc", length=10), "broke off after 3 of 10 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", "cannot be fetched"),
        (reply(gzip.compress(b"0" * 10**6)[:900], "Content-Encoding: gzip"), "comes compressed"),
        (reply(b"no", status="404 Not Found"), "answered 404"),
        (reply(b"half", status="206 Partial Content"), "answered 206"),
        (reply(b"", status="302 Found"), "answered 302"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "cannot be fetched"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n", "cannot be fetched"),
        (b"no HTTP at all\r\n\r\n", "cannot be fetched"),
        (b"", "cannot be fetched"),
    ],
)
def test_what_is_too_much_or_too_little_is_an_error(answer: bytes, says: str) -> None:
    """Whatever a server announces, no more is taken than the limit, and a part is not taken for the whole."""
    with site(answer or b" ") as shop, pytest.raises(MultimodalError, match=says):
        get(f"http://a.example:{shop.port}/")


@pytest.mark.fault("H8")
def test_the_limit_itself_is_allowed() -> None:
    """As many bytes as the limit says are taken."""
    with site(reply(b"x" * 1000)) as shop:
        assert len(get(f"http://a.example:{shop.port}/")) == 1000


@pytest.mark.fault("H8")
@pytest.mark.parametrize("answer", [reply(b"x" * 1000), reply(b"x", "X: " + "x" * 1000)], ids=["body", "headers"])
def test_a_trickle_ends_with_the_time_that_there_is(answer: bytes) -> None:
    """A byte now and then keeps no connection beyond thirty seconds in all; here each look at the clock takes one."""
    with site(answer, slow=True) as shop, pytest.raises(MultimodalError, match="took too long"):
        get(f"http://a.example:{shop.port}/", clock=count().__next__)


@pytest.mark.fault("H8")
def test_redirects_share_the_time_that_there_is() -> None:
    """A new visit brings no new thirty seconds."""
    with site(moved("/"), moved("/"), moved("/"), reply()) as shop, pytest.raises(MultimodalError, match="too long"):
        get(f"http://a.example:{shop.port}/", clock=count(step=4).__next__)

    assert len(shop.asked) in {1, 2}, "no third visit is begun"


@pytest.mark.fault("H8")
def test_silence_ends_with_the_time_that_there_is() -> None:
    """Who takes the connection and says nothing is waited for no longer."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(MultimodalError, match="timed out"):
        get(f"http://a.example:{silent.getsockname()[1]}/", seconds=0.05)


@pytest.mark.fault("H8")
def test_a_handshake_has_what_is_left_of_the_time() -> None:
    """What connecting took is not there twice; here the clock jumps to near its end."""
    began = time.monotonic()

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(MultimodalError, match="timed out"):
        get(f"https://a.example:{silent.getsockname()[1]}/", clock=iter([0, 0, 0, 29.9]).__next__)

    assert time.monotonic() - began < 10


@pytest.mark.fault("H8")
def test_a_resolver_that_does_not_answer_is_not_waited_for() -> None:
    """Looking up the name is part of the time."""
    answered = threading.Event()

    with pytest.raises(MultimodalError, match="too long"):
        get("http://a.example/", seconds=0.05, resolve=lambda *_, **__: answered.wait(20))
    answered.set()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of media.example, signed by itself, with its key."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "media.example")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("media.example")]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem) + private)
    return path


@pytest.mark.parametrize(
    ("host", "trusted", "says"),
    [("media.example", True, ""), ("media.example", False, "CERTIFICATE"), ("other.example", True, "CERTIFICATE")],
)
def test_a_certificate_is_of_the_name_and_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool, says: str
) -> None:
    """The connection goes to an address, the certificate is checked for the name."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with site(reply(b"safe"), tls=tls) as shop:
        url = f"https://{host}:{shop.port}/"
        if not says:
            assert get(url) == b"safe"
        else:
            with pytest.raises(MultimodalError, match=says):
                get(url)


# Through a client, in a network of our own that has a public address

SCRIPT = """
import asyncio, base64, json, sys, threading, time
import openai, instructor
from fake_provider import fake_provider
from instructor.multimodal import PDF, Image
from pydantic import BaseModel
from test_fetch import Site, moved, reply

class User(BaseModel):
    name: str

async def main(client, question):
    longest, last, done = 0, time.monotonic(), asyncio.create_task(client.create(User, question))
    while not done.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return longest, (await done).name

shop = Site(reply(b"%PDF-1.4 slow", "X: " + "x" * 200), address="93.184.215.14", slow=True)
thief = Site(moved("http://127.0.0.1:9/"), address="93.184.215.14")
for each in (shop, thief):
    each.thread.daemon = True
    each.thread.start()
with fake_provider() as provider:
    client = instructor.from_openai(openai.AsyncOpenAI(api_key="k", base_url=provider.url, max_retries=0), model="m")
    told = [{"role": "user", "content": ["Who?", PDF.from_url(f"http://93.184.215.14:{shop.port}/a.pdf")]}]
    longest, name = asyncio.run(main(client, told))
    try:
        PDF.from_url(f"http://93.184.215.14:{thief.port}/a.pdf").whole()
    except instructor.exceptions.MultimodalError as error:
        refused = str(error)
    print(json.dumps([longest, name, provider.requests[0]["messages"][0]["content"], refused]))
"""


@pytest.mark.fault("H7")
@pytest.mark.skipif(not shutil.which("unshare") or not shutil.which("ip"), reason="needs unshare and ip")
def test_a_client_fetches_what_its_api_cannot_and_keeps_its_loop_free() -> None:
    """An async client sends a document's content where the API takes no URL, and other tasks go on meanwhile."""
    network = 'ip link set lo up && ip addr add 93.184.215.14/32 dev lo && exec "$@"'
    command = ["unshare", "-rn", "sh", "-c", network, "sh", sys.executable, "-c", SCRIPT]
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])

    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths})

    if "unshare:" in done.stderr or "RTNETLINK" in done.stderr:
        pytest.skip(f"no network of our own is to be had here: {done.stderr.strip()}")
    longest, name, content, refused = json.loads(done.stdout or pytest.fail(done.stderr))
    assert name == "John"
    assert content[0] == {"type": "text", "text": "Who?"}
    assert content[1]["file"]["file_data"] == "data:application/pdf;base64,JVBERi0xLjQgc2xvdw=="
    assert longest < 0.25, "the fetch, which takes half a second, holds up the loop"
    assert "not a public host" in refused


def test_fetching_is_loaded_when_something_is_fetched() -> None:
    """Who sends no URL pays for no HTTP."""
    code = "import sys; import instructor.multimodal; print('instructor.fetch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parent)

    assert done.stdout == "False\n"
    assert instructor.fetch  # type: ignore[attr-defined]  # here it is
