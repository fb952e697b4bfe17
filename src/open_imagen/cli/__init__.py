"""The door: the command `imagen`."""
