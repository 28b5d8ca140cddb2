"""How messages become bytes for grpclib, and bytes messages.

Answers that are bytes already (joined events) pass through; the rest are betterproto2 messages, or protobuf's own for health
and reflection. What strangers send is read by raven.codec.wire, or by protobuf.
"""

from __future__ import annotations

from typing import Any

import betterproto2
from google.protobuf.message import DecodeError
from grpclib.const import Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError

from raven.codec.wire import parse_message
from raven.errors import InvalidValue

__all__ = ["MessageCodec"]


class MessageCodec(CodecBase):
    """Bytes, betterproto2 and protobuf messages."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        """The bytes of `message`, which may be bytes already."""
        if isinstance(message, bytes):
            return message
        if not isinstance(message, message_type):
            raise TypeError(f"{message_type.__name__} was promised, {type(message).__name__} came")
        encoded: bytes = message.SerializeToString()
        return encoded

    def decode(self, data: bytes, message_type: Any) -> Any:
        """The message in `data`.

        Raises:
            GRPCError: INVALID_ARGUMENT, it is none; the text names the place.
        """
        try:
            if issubclass(message_type, betterproto2.Message):
                return parse_message(data, message_type)
            return message_type.FromString(data)
        except (InvalidValue, DecodeError) as error:
            text = f"the request is no valid {message_type.__name__}: {error}"
            raise GRPCError(Status.INVALID_ARGUMENT, text) from error
