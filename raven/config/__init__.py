"""The server's configuration: frozen tables, where each value came from, and the feeds that it asks for."""

from raven.config.feeds import ResolvedFeed, resolve_feeds
from raven.config.sources import LoadedConfig, load_config
from raven.config.tables import (
    Config,
    DataConfig,
    FeedTable,
    HealthConfig,
    MetricsConfig,
    ResumeConfig,
    ServerConfig,
    TlsConfig,
)

__all__ = [
    "Config",
    "DataConfig",
    "FeedTable",
    "HealthConfig",
    "LoadedConfig",
    "MetricsConfig",
    "ResolvedFeed",
    "ResumeConfig",
    "ServerConfig",
    "TlsConfig",
    "load_config",
    "resolve_feeds",
]
