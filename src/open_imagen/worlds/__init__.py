"""Worlds: synthetic data whose truth is known, with the suites and judges that know it."""
