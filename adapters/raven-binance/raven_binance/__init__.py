"""Raven's adapters for Binance, found by the entry points `binance-spot` and `binance-usdm`; and an emulator of the venue."""

from raven_binance.adapter import BinanceSpotAdapter, BinanceUsdmAdapter
from raven_binance.options import SpotOptions, UsdmOptions

__version__ = "0.1.0"

__all__ = ["BinanceSpotAdapter", "BinanceUsdmAdapter", "SpotOptions", "UsdmOptions"]
