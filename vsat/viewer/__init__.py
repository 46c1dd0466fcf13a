"""The viewer: a page with a map and curves, and the API behind it, over what the stages have published."""
