"""Evaluation: metrics, suites of prompts, judges, sweeps of settings, and studies with people."""
