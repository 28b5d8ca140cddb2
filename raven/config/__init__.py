"""The server's configuration: frozen tables, where each value came from, and the feeds that it asks for."""

from raven.config.feeds import ResolvedFeed, resolve_feeds
from raven.config.sources import LoadedConfig, load_config
from raven.config.tables import Config, FeedTable, HealthConfig, MetricsConfig, ServerConfig

__all__ = [
    "Config",
    "FeedTable",
    "HealthConfig",
    "LoadedConfig",
    "MetricsConfig",
    "ResolvedFeed",
    "ServerConfig",
    "load_config",
    "resolve_feeds",
]
