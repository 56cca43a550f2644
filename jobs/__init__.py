"""Entry points: each job is a dataclass and a `run(job)`; `jobs.cli` is the command line."""
