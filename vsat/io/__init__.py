"""The edges: catalogue, reader, cube, ledger, publishing, the embedded archive."""
