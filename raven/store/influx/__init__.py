"""History in InfluxDB: lines, a spool for each endpoint, and reading back. docs/data-model.md says what stands where."""

from raven.store.influx.history import InfluxHistory, open_influx_history

__all__ = ["InfluxHistory", "open_influx_history"]
