"""Live frames against those the engine was calibrated on: how far, and is it chance?"""
