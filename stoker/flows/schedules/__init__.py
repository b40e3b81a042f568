"""What schedules are made of, without Prefect: times, the scheduler's environment, notices, the list."""
