"""Lists of names, each written once: configuration, command line and dispatch all read them here."""

DATASETS = ("synthetic", "cave", "ntire2022", "ntire2020_clean", "ntire2020_real")
BASELINES = ("mst_plus_plus", "hscnn_plus", "hrnet", "gmsr", "hsrnet", "fmnet", "essaformer")
BRANCHES = ("spatial", "frequency", "spectral")
IMPLEMENTATIONS = ("pallas_triton", "pallas_mosaic", "xla", "associative", "reference")
