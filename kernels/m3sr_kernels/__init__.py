"""Selective scans for M3SR: `ss2d_scan`, `ssd_scan`, `s6_scan`."""
