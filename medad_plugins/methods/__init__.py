"""The methods, one file or folder each by the name of its bundle: scan in, anomaly map out."""
