"""MedAD: the code behind a collection of MONAI bundles for unsupervised anomaly detection in medical images."""

__version__ = "0.1.0"
