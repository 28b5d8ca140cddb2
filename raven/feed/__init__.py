"""One supervised connection to a venue: transport, REST, the runner that drives a session, and its statistics.

Nothing here knows a venue, sleeps before a retry, or decides to connect again: that is `raven.supervisor`.
"""
