"""A stream that is made beside one that is still read: what has come on it until it can take over. Pure."""

from __future__ import annotations

from raven.client.controls import DRAINING, GOODBYE, SUBSCRIBED, WELCOME
from raven.client.decode import Decoder
from raven.client.wishes import Wishes
from raven.codec.generated.raven import v1

__all__ = ["Overlap"]


class Overlap:
    """Made when `wishes` are asked for on the new stream. Until it takes over, nothing that comes on it counts.

    Attributes:
        messages: what has come, in order.
        refused: why it will not do; empty while it may.
    """

    def __init__(self, wishes: Wishes) -> None:
        self.messages: list[bytes] = []
        self.refused = ""
        self._wishes = wishes
        self._version = wishes.version
        self._unanswered = set(wishes.names)
        self._welcomed = False
        self._decoder = Decoder()

    @property
    def ready(self) -> bool:
        """Whether the server there has taken everything that is wanted now."""
        return self._answered and not self.refused and self._version == self._wishes.version

    @property
    def settled(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self._answered or bool(self.refused)

    @property
    def _answered(self) -> bool:
        return self._welcomed and not self._unanswered

    def take(self, data: bytes) -> None:
        """One message.

        Raises:
            DecodeError, ValueError, EOFError: it is none.
        """
        self.messages.append(data)
        for number, body in [] if self.settled else self._decoder.decode(data).controls:
            if number == WELCOME:
                self._welcomed = True
            elif number == SUBSCRIBED:
                for result in v1.SubscribeResponse.parse(body).results:
                    self._answer(result)
            elif number in (DRAINING, GOODBYE):
                self.refused = "the server there is going away too"

    def _answer(self, result: v1.SubscribeResponseResult) -> None:
        self._unanswered.discard(result.id)
        if not result.accepted and (self._wishes.was_accepted(result.id) or not self._wishes.is_late(result.id)):
            self.refused = f"{result.field}: {result.error}"
