"""Float .tflite + samples -> a verified bundle: calibrate, choose, refine, prove, write."""
