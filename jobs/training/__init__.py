"""Around a training run: stops, restarts, records, release. The verb is `jobs.train`."""
