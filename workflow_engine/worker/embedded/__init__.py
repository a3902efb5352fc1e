"""A worker and a beat in threads of an application's own process."""
