"""Plan, do one, finish: fetch, generate, fill, and the nights made of them."""
