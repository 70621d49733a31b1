"""`make bench`: what restoring costs, measured on this machine; `python -m tests.bench --help`."""
