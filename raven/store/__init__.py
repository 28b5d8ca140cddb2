"""What outlives a process: the data directory and what stands in it."""

from raven.store.data_dir import has_room, open_data_dir
from raven.store.recent import save_recent, take_recent

__all__ = ["has_room", "open_data_dir", "save_recent", "take_recent"]
