"""Suites of prompts, and images of them by any text-to-image system."""
