"""The model language every stage speaks: the TFLite flatbuffer, its tap and its interpreter."""
