"""Binance spot and USD-M on this machine, in the venue's own protocol, from recorded or generated frames."""

from raven_binance.emulator.server import SpotEmulator, UsdmEmulator

__all__ = ["SpotEmulator", "UsdmEmulator"]
