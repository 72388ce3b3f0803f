"""Network blocks that know no task: attention, positions, recurrence, feed-forward, dropout."""
