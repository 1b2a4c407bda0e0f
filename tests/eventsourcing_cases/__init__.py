"""evrt's logs as the eventsourcing library's persistence: its shipped cases as they are, then what is ours."""
