"""Studies in which people compare images."""
