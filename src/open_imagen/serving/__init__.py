"""Faces on the web: rating pictures, and serving them."""
