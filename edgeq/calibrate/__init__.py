"""Float model + samples -> CalibrationTable: a clipping range for every activation."""
