"""A finished result as QuPath GeoJSON, OME-TIFF, CSV and PNG."""
