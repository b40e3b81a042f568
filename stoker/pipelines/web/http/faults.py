"""Errors of a response: too large, cut, or not HTTP as RFC 9110 and RFC 9112 have it; and of writing it."""


class BodyTooLarge(Exception):
    """The body has more bytes than allowed."""


class IncompleteResponse(Exception):
    """The connection ended before the response did."""


class PartEnded(IncompleteResponse):
    """The response is whole, and only a part of the body: the next request asks for what follows."""


class ProtocolError(Exception):
    """The response is not HTTP, or has a Content-Encoding that was not asked for."""


class NotWritten(Exception):
    """A body cannot be written on this machine: no fault of the server. ``error`` is why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class DeadlineExceeded(TimeoutError):
    """The time for the whole response is over."""
