"""The HTML page of ``gsr eval``."""
