"""The web page of `m3sr view`."""
