"""Raven's adapter for Binance, found by the entry point `binance-spot`; and an emulator of the venue."""

from raven_binance.adapter import BinanceSpotAdapter, SpotOptions

__version__ = "0.1.0"

__all__ = ["BinanceSpotAdapter", "SpotOptions"]
