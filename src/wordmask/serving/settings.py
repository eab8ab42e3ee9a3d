"""What a service allows. Every limit is checked before the work that it limits."""

from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from wordmask.errors import WordmaskError
from wordmask.pictures.images import PEAK_BYTES

BYTES_A_PIXEL = 3 + 5
"""Of a picture in RGB, and of its answer: a label (one byte up to 255 names) and a score in float32."""
DECODED_BYTES_A_PIXEL = max(PEAK_BYTES.values())
"""That decoding takes of one at most."""
RETRY_SOON = 5
"""Seconds, where nothing tells how long it will take."""
SECONDS_A_PIXEL = 1e-6
"""A client's small picture goes before its large ones, as if those had come so much later."""


class ServeError(WordmaskError):
    """A service that cannot be set up so."""


class RequestError(WordmaskError):
    """A request that is not answered: `status` is HTTP's, `code` is for programs, the message for people."""

    def __init__(self, status: int, code: str, reason: str, *, retry_after: int | None = None):
        super().__init__(reason)
        self.status, self.code, self.reason, self.retry_after = status, code, reason, retry_after


def stopping() -> RequestError:
    return RequestError(503, "stopping", "the service is being stopped", retry_after=RETRY_SOON)


def _addresses(given: tuple[str, ...]) -> tuple[str, ...]:
    for address in given:
        try:
            ip_network(address, strict=False)
        except ValueError as error:
            raise ServeError(
                f"trusted proxy {address[:60]!r} is neither an address nor a network, such as 10.0.0.7 or 10.0.0.0/8"
            ) from error
    return given


@dataclass(frozen=True)
class ServeSettings:
    """max_bytes: of a whole request. max_pixels: of a picture, known from its header before it is decoded.
    max_names: names and their synonyms in one request. max_pictures: pictures in one request that may bring several.

    address_share: what one client may have of each number below, so that others find some left; it is told by its
    address.
    connections: open ones; beyond it the one that was idle longest is closed.
    idle_seconds: for a connection between two requests. header_seconds: for the head of a request.
    arriving, body_bytes: bodies on their way, and bytes of them and of those that are whole and wait to be read.
    body_seconds: for a body to arrive. slowest_rate, stall_seconds: bytes a second, of a body that arrives and of an
    answer that is read, and how long no byte may come or be taken.
    answer_seconds: for an answer from when its request is whole.
    in_flight: requests that are whole and being answered. waiting: pictures that wait for the network.
    picture_bytes: of decoded pictures, and of answers until they are taken.
    stop_seconds: for what is being answered, once the service is told to stop.
    batch_size, batch_wait: pictures that the network looks at together, and how long the first waits for others.
    cache_bytes: what the web page keeps of pictures that it has seen.
    decoders: processes that decode pictures, apart from the one that serves; with 0 it decodes them itself.
    decode_seconds: of a processor a picture may take to be decoded; then its decoder is ended and replaced.
    decode_bytes: of memory a decoder may take for a picture; more where `max_pixels` could not be decoded in it.
    upload_bytes: of the pictures that visitors of the page have uploaded and that have not been looked at yet.
    uploads_each, upload_seconds: how many of those one address may have there at once, and for how long.
    trusted_proxies: addresses or networks (CIDR) of proxies that are believed what they say of their clients: the
    address, the host's name, whether it is https. No other sender is.
    """

    max_bytes: PositiveInt = 20 * 2**20
    max_pixels: PositiveInt = 24_000_000
    max_names: PositiveInt = 200
    max_pictures: PositiveInt = 16
    address_share: Annotated[PositiveFloat, Field(le=1)] = 0.5
    connections: PositiveInt = 512
    idle_seconds: PositiveFloat = 10.0
    header_seconds: PositiveFloat = 10.0
    arriving: PositiveInt = 128
    body_bytes: PositiveInt = 128 * 2**20
    body_seconds: PositiveFloat = 60.0
    slowest_rate: PositiveInt = 8 * 2**10
    stall_seconds: PositiveFloat = 5.0
    answer_seconds: PositiveFloat = 60.0
    in_flight: PositiveInt = 64
    waiting: PositiveInt = 32
    picture_bytes: PositiveInt = 256 * 2**20
    stop_seconds: PositiveFloat = 6.0
    batch_size: PositiveInt = 8
    batch_wait: Annotated[NonNegativeFloat, Field(le=1)] = 0.005
    cache_bytes: PositiveInt = 192 * 2**20
    upload_bytes: PositiveInt = 128 * 2**20
    uploads_each: PositiveInt = 8
    upload_seconds: PositiveFloat = 60.0
    decoders: NonNegativeInt = 3
    decode_seconds: PositiveFloat = 10.0
    decode_bytes: PositiveInt = 512 * 2**20
    api_key: Annotated[str, Field(min_length=1)] | None = None
    trusted_proxies: Annotated[tuple[str, ...], AfterValidator(_addresses)] = ()

    def of_one(self, limit: int) -> int:
        """Return what one client may have of a limit."""
        return max(1, int(self.address_share * limit))

    @property
    def most_body_bytes(self) -> int:
        """One of the largest must fit, whatever the limits are."""
        return max(self.body_bytes, self.max_bytes)

    @property
    def most_body_bytes_of_one(self) -> int:
        return max(self.of_one(self.body_bytes), self.max_bytes)

    @property
    def most_picture_bytes(self) -> int:
        return max(self.picture_bytes, self.max_pixels * BYTES_A_PIXEL)

    @property
    def most_picture_bytes_of_one(self) -> int:
        return max(self.of_one(self.picture_bytes), self.max_pixels * BYTES_A_PIXEL)

    @property
    def most_decode_bytes(self) -> int:
        return max(self.decode_bytes, self.max_pixels * DECODED_BYTES_A_PIXEL + 2 * self.max_bytes)
