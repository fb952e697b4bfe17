"""The shapes world: coloured shapes on plain grounds, with captions, a suite and a judge."""
