"""Feed lifecycle and restart policy: the only place that waits and connects again.

Each feed is a task with a task per connection inside. A venue's fault costs that connection a pause; an adapter's fault costs
it the same and is counted against the feed, which is parked after too many; neither is felt by another feed. A fault of Raven
itself leaves `Supervisor.run` as it came.
"""

from raven.supervisor.config import ConfiguredFeed, SupervisorConfig
from raven.supervisor.feed import Feed
from raven.supervisor.supervisor import Supervisor

__all__ = ["ConfiguredFeed", "Feed", "Supervisor", "SupervisorConfig"]
