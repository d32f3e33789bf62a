from m3sr_kernels.s6_scan.reference import s6_scan_reference as s6_scan_xla
