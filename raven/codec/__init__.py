"""Bytes on the wire: the generated code of raven.proto, the event encoder beside it, and the walk over what strangers send."""
