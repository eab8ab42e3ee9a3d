"""The error of a picture that costs too much, and how a count is held against its limit."""


class CostlyPictureError(ValueError):
    """A picture that would cost far more than its pixels: the message says what there is too much of."""


def at_most(count: float, limit: int, what: str) -> None:
    if count > limit:
        raise CostlyPictureError(f"has more than {limit} {what}")
