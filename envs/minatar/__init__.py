"""The environments of the package minatar."""
