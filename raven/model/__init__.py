"""What everything else speaks of: names, events, instruments, books. No I/O, no clock, no library but attrs."""
