"""Arrays in, arrays out: no files, no network, no clock."""
