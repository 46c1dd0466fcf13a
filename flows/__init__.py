"""Prefect flows over the stages: fetch, generate, nightly, backfill."""
