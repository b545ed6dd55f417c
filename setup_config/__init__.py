"""One sample setup_config.json per task, and a sample V2 request."""
