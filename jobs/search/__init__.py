"""A search: its spaces, trials, rules of stopping, journal and page. The verb is `jobs.tune`."""
