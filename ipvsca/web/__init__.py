"""What the daemon serves over HTTP: metrics, health, and a page to look at."""
