"""Synthetic worlds: data whose truth is known, with captions, suites and judges."""
