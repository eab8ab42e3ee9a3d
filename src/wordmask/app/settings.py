"""What a service allows. Every limit is checked before the work that it limits."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from wordmask.errors import WordmaskError


class ServeError(WordmaskError):
    """A service that cannot be set up so."""


class RequestError(WordmaskError):
    """A request that is not answered: `status` is HTTP's, `code` is for programs, the message for people."""

    def __init__(self, status: int, code: str, reason: str, *, retry_after: int | None = None):
        super().__init__(reason)
        self.status, self.code, self.reason, self.retry_after = status, code, reason, retry_after


@dataclass(frozen=True)
class ServeSettings:
    """max_bytes: of a whole request. max_pixels: of a picture, known from its header before it is decoded.

    body_seconds: for a request to arrive. answer_seconds: for its answer from then on.
    waiting: pictures that wait for the network. in_flight: requests that are being received or answered.
    waiting_bytes: of decoded pictures that wait. answer_bytes: of answers that wait to be written; while they hold as
    much, no other is made.
    batch_size, batch_wait: pictures that the network looks at together, and how long the first waits for others.
    cache_bytes: what the web page keeps of pictures that it has seen.
    upload_bytes: of the files of visitors that lie there at once, between their coming and their being read.
    decoders: processes that decode pictures, apart from the one that serves; with 0 it decodes them itself.
    decode_seconds: of a processor a picture may take to be decoded; then its decoder is ended and replaced.
    decode_bytes: of memory a decoder may take for a picture.
    decoded_bytes: of all decoded pictures together; while they take as much, the next one waits.
    waiting_decodes: pictures that wait for a decoder.
    """

    max_bytes: PositiveInt = 20 * 2**20
    max_pixels: PositiveInt = 24_000_000
    max_names: PositiveInt = 200
    body_seconds: PositiveFloat = 20.0
    answer_seconds: PositiveFloat = 60.0
    waiting: PositiveInt = 32
    waiting_bytes: PositiveInt = 512 * 2**20
    answer_bytes: PositiveInt = 256 * 2**20
    in_flight: PositiveInt = 64
    batch_size: PositiveInt = 8
    batch_wait: Annotated[NonNegativeFloat, Field(le=1)] = 0.005
    cache_bytes: PositiveInt = 256 * 2**20
    upload_bytes: PositiveInt = 256 * 2**20
    decoders: NonNegativeInt = 2
    decode_seconds: PositiveFloat = 10.0
    decode_bytes: PositiveInt = 512 * 2**20
    decoded_bytes: PositiveInt = 256 * 2**20
    waiting_decodes: PositiveInt = 32
    api_key: Annotated[str, Field(min_length=1)] | None = None
